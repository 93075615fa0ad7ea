"""Trained weights under other projects' names: which project they are from, and the same tensors under ours."""

__all__ = ["Fitted", "fitted"]

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from invkit.denoisers.spec import Denoiser, Upstream
from invkit.denoisers.weights.read import listed
from invkit.errors import ArtifactError

WRAPPERS = ("module.", "_orig_mod.")  # what DataParallel and torch.compile put before every name


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
    state = _unwrapped(state)
    readings = [_own(spec), *(_foreign(spec, upstream) for upstream in spec.upstreams)]
    best = max(readings, key=lambda reading: len(reading.ours.keys() & state.keys()))
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


def _unwrapped(state: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    for prefix in WRAPPERS:
        if state and all(name.startswith(prefix) for name in state):
            return _unwrapped({name.removeprefix(prefix): tensor for name, tensor in state.items()})
    return state


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
