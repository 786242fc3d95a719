"""A real browser against a real server: Debian's chromium, driven by Playwright, and only this machine's addresses."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from django.conf import settings

from tests.support import story
from tests.support.browser import PASSWORD

CHROMIUM = Path("/usr/bin/chromium")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """Remember whether the test failed, for the page to be photographed before it closes."""
    report = yield
    if report.when == "call":
        item.stash[FAILED] = report.failed
    return report


FAILED = pytest.StashKey[bool]()


@pytest.fixture(scope="module")
def browser(django_db_setup) -> Iterator:
    """Skipped without chromium, except where it must be there.

    Playwright keeps an event loop in this thread for as long as it runs, so it ends with the module, and until then Django is
    told that the tests' own queries beside it are no mistake.
    """
    if not CHROMIUM.exists() and os.environ.get("CI") != "true":
        pytest.skip(f"{CHROMIUM} is not installed")
    from playwright.sync_api import sync_playwright

    with pytest.MonkeyPatch.context() as patch, sync_playwright() as playwright:
        patch.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "true")
        arguments = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=arguments)
        yield browser
        browser.close()


@pytest.fixture
def open_as(browser, live_server, request) -> Iterator[Callable]:
    """A page in a browser of its own, signed in through the login form: open_as(grace)."""
    pages = []

    def open_page(user):
        user.set_password(PASSWORD)
        user.save()
        context = browser.new_context(viewport={"width": 1280, "height": 900}, base_url=live_server.url)
        page = context.new_page()
        page.set_default_timeout(20_000)
        page.errors = []
        page.on("pageerror", lambda error: page.errors.append(str(error)))
        # What the content security policy forbids is no exception in the page; the browser only says so.
        page.on("console", lambda said: page.errors.append(said.text) if "Content Security Policy" in said.text else None)
        pages.append(page)
        page.goto("/admin/")
        page.fill("[name=login]", user.username)
        page.fill("[name=password]", PASSWORD)
        page.press("[name=password]", "Enter")
        page.wait_for_url("**/admin/")
        return page

    yield open_page
    for number, page in enumerate(pages):
        if request.node.stash.get(FAILED, False):
            page.screenshot(path=settings.VAR_DIR / "browser" / f"{request.node.name}-{number}.png", full_page=True)
        page.context.close()


@pytest.fixture
def vector(ada, base_model, contrast_set, suites):
    """A vector with its job, its sweep and its heat map."""
    return story.extract_vector(base_model=base_model, contrast_set=contrast_set, suites=suites, author=ada, heatmap=story.make_png())


@pytest.fixture
def evaluation(ada, vector, suites):
    return story.validate_vector(vector, suites=suites, author=ada)
