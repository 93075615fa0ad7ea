"""Trained weights under other projects' names: which project they are from, and the same tensors under ours."""

__all__ = ["Fitted", "candidates", "fitted"]

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from invkit.denoisers.spec import Denoiser, Upstream
from invkit.denoisers.weights.read import listed
from invkit.errors import ArtifactError

# What DataParallel, torch.compile and the modules of a training, such as Lightning's, put before the names of a network.
WRAPPERS = ("module.", "_orig_mod.", "model.", "net.", "network.", "generator.", "denoiser.")


@dataclass(frozen=True)
class Fitted:
    """Weights under a denoiser's own names.

    Args:
        tensors: as `network.state_dict()` names them.
        upstream: the project they are from; `None` where they had the denoiser's own names.
        build: makes the network they belong to.
    """

    tensors: dict[str, Tensor]
    upstream: Upstream | None
    build: Callable[[], nn.Module]


@dataclass(frozen=True)
class _Reading:
    """One way to read the names of a file: `ours` by the file's names, and the network with ours."""

    ours: Mapping[str, str]
    network: Mapping[str, Tensor]
    upstream: Upstream | None
    build: Callable[[], nn.Module]


def fitted(state: Mapping[str, Tensor], spec: Denoiser, *, label: str) -> Fitted:
    """Return weights under the denoiser's own names, whichever known project they are from.

    The project is the one with most of the file's names; then every name and every shape must agree.

    Args:
        state: tensors as a file names them.
        spec: the denoiser that they are for, with its upstreams.
        label: how messages call the file.

    Raises:
        ArtifactError: a name is missing, too many or of another shape; the message has the file's own names.
    """
    readings = [_own(spec), *(_foreign(spec, upstream) for upstream in spec.upstreams)]
    state, best = max(
        ((names, reading) for names in candidates(state) for reading in readings),
        key=lambda pair: len(pair[1].ours.keys() & pair[0].keys()),
    )
    if not best.ours.keys() & state.keys():
        raise ArtifactError(
            f"{label} contains no weights of {spec.name}: {listed('its names are', state)}. Known names are "
            f"{'; '.join(map(_known, readings))}"
        )
    found = [fault for fault in _faults(state, best) if fault]
    if found:
        whose = f"{best.upstream.name}'s {spec.name}" if best.upstream else spec.name
        raise ArtifactError(f"{label} does not fit {whose}: {'; '.join(found)}")
    tensors = {ours: state[theirs] for theirs, ours in best.ours.items()}
    return Fitted(tensors, best.upstream, best.build)


def candidates(state: Mapping[str, Tensor]) -> Iterator[Mapping[str, Tensor]]:
    """Yield a state dict as it is, then what is left of it below each known wrapper, wrappers within wrappers last."""
    found = [state]
    for current in found:
        yield current
        for prefix in WRAPPERS:
            below = {
                name.removeprefix(prefix): tensor
                for name, tensor in current.items()
                if name.startswith(prefix)
            }
            if below:
                found.append(below)


def _own(spec: Denoiser) -> _Reading:
    network = spec.build().state_dict()
    return _Reading({name: name for name in network}, network, None, spec.build)


def _foreign(spec: Denoiser, upstream: Upstream) -> _Reading:
    build = upstream.build or spec.build
    network = build().state_dict()
    theirs = {ours: name for name, ours in upstream.modules.items()}
    names: dict[str, str] = {}
    for name in network:
        module, _, leaf = name.rpartition(".")
        if module not in theirs:
            raise ArtifactError(
                f"upstream {upstream.name} of {spec.name} has no name for {name}: please report this to the author of the plugin"
            )
        names[f"{theirs[module]}.{leaf}"] = name
    return _Reading(names, network, upstream, build)


def _faults(state: Mapping[str, Tensor], reading: _Reading) -> Sequence[str]:
    wanted = reading.ours.keys()
    return (
        listed("it lacks", wanted - state.keys()),
        listed("it has, but the network does not,", state.keys() - wanted),
        listed(
            "other shapes than the network has:",
            (
                f"{name} {tuple(state[name].shape)} instead of {tuple(reading.network[reading.ours[name]].shape)}"
                for name in wanted & state.keys()
                if state[name].shape != reading.network[reading.ours[name]].shape
            ),
        ),
    )


def _known(reading: _Reading) -> str:
    whose = reading.upstream.name if reading.upstream else "its own names"
    return f"{whose} ({', '.join(list(reading.ours)[:2])}, ...)"
