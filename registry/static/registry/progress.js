// Keeps the progress of unfinished jobs up to date: one small request a second for each, none while the page is hidden.
(() => {
  "use strict";
  const SECOND = 1000;

  function show(box, job) {
    const bar = box.querySelector("progress");
    if (bar) {
      if (job.total > 0) {
        bar.max = job.total;
        bar.value = job.done;
      } else {
        bar.removeAttribute("value");
      }
    }
    // The bar counts the whole job, the note what the stage makes.
    const count = job.total ? `${Math.floor((100 * job.done) / job.total)} % done` : "";
    const texts = { state: job.state, stage: job.stage, note: job.note, attempt: job.attempt, left: job.left, speed: job.speed, notices: job.notices, count };
    for (const [name, text] of Object.entries(texts)) {
      const place = box.querySelector(`[data-job-${name}]`);
      if (place && place.textContent !== String(text)) place.textContent = text;
    }
  }

  async function watch(box) {
    for (;;) {
      await new Promise((resolve) => setTimeout(resolve, SECOND));
      if (document.hidden) continue;
      try {
        const answer = await fetch(box.dataset.progressUrl, { headers: { Accept: "application/json" }, credentials: "same-origin" });
        if (!answer.ok) continue;
        const job = await answer.json();
        show(box, job);
        if (job.finished) {
          window.location.reload();
          return;
        }
      } catch {
        // The hub may be restarting; the next second asks again.
      }
    }
  }

  document.addEventListener("DOMContentLoaded", () => document.querySelectorAll("[data-progress-url]").forEach(watch));
})();
