"""Proving: what an architecture file says of a model is tried on the model, once, when it is loaded.

Two sums must hold in every layer, on a short fixed prompt, element by element and within the rounding of the dtype:

    resid_mid = resid_pre + attn_out,  resid_post = resid_mid + mlp_out

in one without resid_mid, resid_post is the sum of all that it names. While they are tried, something is added to every site in place:
so the sums show too whether a change at a site reaches the stream. What one layer returns must be what the next is given, and the
final norm must be given what the last returns.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from contextlib import ExitStack
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from steernode.engine.access.architectures import find_module
from steernode.engine.access.sites import hook_input, hook_output, visit_site
from steernode.errors import EngineError, ModelError

if TYPE_CHECKING:
    from steernode.engine.access.models import LoadedModel

_SITES = ("resid_pre", "attn_out", "resid_mid", "mlp_out", "resid_post")
# The sum of two or three terms, one of them multiplied, in whatever order the block takes them.
_ROUNDINGS = 4
# How much is added to a site, as a part of what is there: much more than rounding, and little enough for a hundred layers.
_EDIT = 1 / 8
_ROWS, _COLUMNS = 2, 6


class _Unproved(Exception):
    def __init__(self, site: str, layer: int, problem: str) -> None:
        super().__init__(site, layer, problem)
        self.site, self.layer, self.problem = site, layer, problem


def prove_sites(loaded: LoadedModel) -> None:
    """One pass over a short prompt if everything is where the file says; a few more to say what is not.

    Raises: ModelError SITE_UNPROVED, whose item is a site and its layer, such as 'attn_out layer 3'.
    """
    try:
        _try_sites(loaded, _SITES)
    except _Unproved as found:
        fault = _find_fault(loaded) or found
        raise ModelError(
            "SITE_UNPROVED",
            f"what the file of {loaded.manifest.architecture} says of {fault.site} does not hold at layer {fault.layer}: {fault.problem}",
            f"{fault.site} layer {fault.layer}",
        ) from found


def _find_fault(loaded: LoadedModel) -> _Unproved | None:
    """What is wrong even while nothing is edited; else the one site whose edits are lost."""
    for edited in ((), *((site,) for site in _SITES)):
        try:
            _try_sites(loaded, edited)
        except _Unproved as fault:
            return _Unproved(edited[0], fault.layer, "a change in place there does not reach the stream") if edited else fault
    return None


@torch.inference_mode()
def _try_sites(loaded: LoadedModel, edited: Collection[str]) -> None:
    """Raises: _Unproved."""
    layers = [_Layer(loaded, number, edited) for number in range(loaded.n_layers)]
    with ExitStack() as hooks:
        for layer in layers:
            layer.hook(hooks)
        ended: list[Tensor] = []
        if loaded.final_norm is not None:
            hooks.callback(hook_input(loaded.final_norm, lambda stream: ended.append(_keep(stream)), 2).remove)
        # Each token another one, so that no row or column passes for its neighbour.
        token_ids = torch.arange(_ROWS * _COLUMNS).mul(7).add(3).remainder(loaded.manifest.vocab_size).view(_ROWS, _COLUMNS)
        failure: Exception | None = None
        try:
            loaded.decoder(input_ids=token_ids.to(loaded.device), use_cache=False)
        except (EngineError, RuntimeError) as error:
            failure = error
    if failure is not None:
        raise _find_unreadable(loaded) or failure
    for layer in layers:
        layer.check()
    for below, above in pairwise(layers):
        _compare(
            "resid_post", below.number, "what the layer returns is not what the next one is given", above.given, below.seen["resid_post"]
        )
    if loaded.final_norm is not None:
        problem = f"{loaded.architecture.final_norm} is not given what the last layer returns"
        _compare("resid_post", layers[-1].number, problem, ended[-1] if ended else None, layers[-1].seen["resid_post"])


class _Layer:
    """What is seen of one layer in a pass: each site as it was found and as it was left, and the norms that the stream goes through."""

    def __init__(self, loaded: LoadedModel, number: int, edited: Collection[str]) -> None:
        self.number, self.sites, self.edited = number, loaded.architecture.layers[number], edited
        self._loaded = loaded
        self.found: dict[str, Tensor] = {}
        self.seen: dict[str, Tensor] = {}

    @property
    def given(self) -> Tensor | None:
        return self.found.get("resid_pre")

    def hook(self, hooks: ExitStack) -> None:
        # The norms first: they are to be seen before a site inside them is edited.
        for name in ("mid_norm", "post_norm"):
            if (path := getattr(self.sites, name)) is not None:
                norm = find_module(self._loaded.blocks[self.number], path)
                hooks.callback(hook_input(norm, partial(self._keep, f"{name} in"), 2).remove)
                hooks.callback(hook_output(norm, partial(self._keep, f"{name} out"), 2).remove)
        for site in _SITES:
            if site not in self.sites.absent:
                hooks.callback(visit_site(self._loaded, self.number, site, self._visit(site)).remove)

    def _keep(self, name: str, stream: Tensor) -> None:
        self.seen[name] = _keep(stream)

    def _visit(self, site: str) -> Callable[[Tensor], None]:
        def visit(stream: Tensor) -> None:
            self.found[site] = _keep(stream)
            if site in self.edited:
                # Its own values in other places: of the same length, and in no direction that it has.
                stream.add_(stream.roll(1, dims=-1), alpha=_EDIT)
            self.seen[site] = _keep(stream)

        return visit

    def check(self) -> None:
        for site in _SITES:
            if site not in self.sites.absent and site not in self.seen:
                raise _Unproved(site, self.number, "it is never reached")
        named = [site for site in ("attn_out", "mlp_out") if site not in self.sites.absent]
        if "resid_mid" in self.sites.absent:
            if named:
                problem = "resid_post is not resid_pre and what is added to it"
                self._compare(" and ".join(named), problem, "post_norm in", self.found["resid_post"], "resid_pre", *named)
            return
        first = "attn_out" not in named or self._is_sum("mid_norm in", self.found["resid_mid"], "resid_pre", "attn_out")
        second = "mlp_out" not in named or self._is_sum("post_norm in", self.found["resid_post"], "resid_mid", "mlp_out")
        if not first or not second:
            # Both fail by what they share.
            site = "resid_mid" if not first and not second else "mlp_out" if first else "attn_out"
            problem = "resid_post is not resid_mid + mlp_out" if first else "resid_mid is not resid_pre + attn_out"
            raise _Unproved(site, self.number, problem)
        for norm, site in (("mid_norm", "resid_mid"), ("post_norm", "resid_post")):
            if getattr(self.sites, norm) is not None:
                _compare(
                    site, self.number, f"it is not what {getattr(self.sites, norm)} returns", self.seen.get(f"{norm} out"), self.found[site]
                )

    def _compare(self, site: str, problem: str, norm: str, found: Tensor, *terms: str) -> None:
        if not self._is_sum(norm, found, *terms):
            raise _Unproved(site, self.number, problem)

    def _is_sum(self, norm: str, found: Tensor, *terms: str) -> bool:
        """Whether the terms, as they were left, add up to what was found; where a norm comes after the sum, to what it was given."""
        if getattr(self.sites, norm.partition(" ")[0]) is not None:
            if norm not in self.seen:
                return False
            found = self.seen[norm]
        return _is_sum(found, [self.seen[term] for term in terms])


def _find_unreadable(loaded: LoadedModel) -> _Unproved | None:
    """Which site shows a tensor that is no stream; None if the pass fails whether or not anybody looks."""
    token_ids = torch.zeros(1, 2, dtype=torch.long, device=loaded.device)
    try:
        loaded.decoder(input_ids=token_ids, use_cache=False)
    except RuntimeError:
        return None
    for number, sites in enumerate(loaded.architecture.layers):
        for site in _SITES:
            if site in sites.absent:
                continue
            handle = visit_site(loaded, number, site, lambda _stream: None)
            try:
                loaded.decoder(input_ids=token_ids, use_cache=False)
            except (EngineError, RuntimeError) as error:
                return _Unproved(site, number, f"what is there is no stream: {error}")
            finally:
                handle.remove()
    return None


def _keep(stream: Tensor) -> Tensor:
    """On the CPU, because the layers of one model may be on several devices, and these are a few rows."""
    return stream.detach().flatten(0, -2).to("cpu", copy=True)


def _compare(site: str, layer: int, problem: str, found: Tensor | None, wanted: Tensor) -> None:
    if found is None or not _is_sum(found, [wanted]):
        raise _Unproved(site, layer, problem)


def _is_sum(found: Tensor, terms: list[Tensor]) -> bool:
    if any(term.shape != found.shape for term in terms):
        return False
    eps = max(torch.finfo(tensor.dtype).eps for tensor in (found, *terms))
    found, *terms = (tensor.double() for tensor in (found, *terms))
    size = torch.stack([found, *terms]).abs().sum(dim=0)
    # What overflows proves nothing here, and is refused by name wherever it is read.
    finite = size.isfinite()
    return bool(((found - torch.stack(terms).sum(dim=0)).abs() <= _ROUNDINGS * eps * size)[finite].all())
