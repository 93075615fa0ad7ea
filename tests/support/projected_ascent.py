"""Searches for what hides from a layer that share nothing with the product's: projected ascent from 32 starts, in float64.

The layer is a function; its windows are weighed by an augmented Lagrangian, and what is returned is within the tolerance in all.
"""

import torch
from torch.nn.functional import avg_pool2d

STARTS = 32


def window_squares(difference, side):
    """Return mean squares of differences `(S, C, h, w)` over windows that overlap by half, `(S, K)`."""
    power = difference.square().mean(1, keepdim=True)
    rows, columns = (sorted({*range(0, n - side + 1, side // 2), n - side}) for n in power.shape[-2:])
    return avg_pool2d(power, side, stride=1)[:, 0][:, rows][:, :, columns].flatten(1)


class Seen:
    """What a layer sees of changes of x, as a part of what the tolerance allows.

    Args:
        phi: the layer, in float64.
        x: `(1, 1, H, W)`.
        s: unit of z, `(1, C, h, w)`.
        side: of windows.
        tolerance: in units of S.
    """

    def __init__(self, phi, x, s, side, tolerance):
        self.phi, self.x, self.s, self.side, self.tolerance = phi, x, s, side, tolerance
        with torch.no_grad():
            self.z = phi(x)

    def __call__(self, changes):
        """Return squares of distances over windows for changes `(S, H * W)`, 1 where they are at the tolerance."""
        moved = self.phi(self.x + changes.view(-1, *self.x.shape[1:]))
        return window_squares((moved - self.z) / self.s, self.side) / self.tolerance**2

    def jacobian(self, changes):
        """Return J of each of `(n, H * W)` changes in units of S and of the tolerance, `(n, numbers in z)`, by differences."""
        found = []
        with torch.no_grad():
            for some in changes.split(64):
                step = 1e-4 * some.view(-1, *self.x.shape[1:])
                found.append((self.phi(self.x + step) - self.phi(self.x - step)) / 2e-4 / self.s)
        return torch.cat(found).flatten(1) / self.tolerance


def ascended(value, seen, change, project, start, *, steps):
    """Return the largest value that was found within the tolerance, over all starts.

    Args:
        value: of coordinates `(S, n)`, `(S,)`, about 1; minus infinity where they are not allowed.
        seen: `Seen`.
        change: what coordinates are in the image, `(S, H * W)`.
        project: coordinates onto what is allowed but for the windows.
        start: `(S, n)`.
        steps: of Adam.
    """
    at = project(start).requires_grad_()
    optimiser = torch.optim.Adam([at], betas=(0.9, 0.98))
    multipliers = torch.zeros_like(seen(change(at.detach())))
    best = -torch.inf
    size = float(at.detach().norm(dim=1).mean()) / at.shape[1] ** 0.5
    for step in range(steps):
        optimiser.param_groups[0]["lr"] = size * 0.01 ** (step / steps)
        beyond = multipliers + seen(change(at)) - 1
        loss = beyond.clamp(min=0).square().sum() / 2 - value(at).sum()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        with torch.no_grad():
            at.copy_(project(at))
            if step % 10 == 9:
                multipliers = (multipliers + seen(change(at)) - 1).clamp(min=0)
            if step % 50 == 49 or step == steps - 1:
                best = max(best, float(_within(value, seen, change, at).max()))
    return best


def _within(value, seen, change, at):
    low, high = torch.zeros(len(at), dtype=at.dtype), torch.full((len(at),), 1.5, dtype=at.dtype)
    for _ in range(14):
        middle = (low + high) / 2
        holds = seen(change(middle[:, None] * at)).amax(1) <= 1
        low, high = torch.where(holds, middle, low), torch.where(holds, high, middle)
    return value(low[:, None] * at)


def with_companion(seen, d, root, bound, *, steps):
    """Return the largest c for which c d + A w is within the tolerance, with |w| of at most a bound.

    Args:
        seen: `Seen`.
        d: `(H * W,)`.
        root: A, a matrix.
        bound: of w.
        steps: of Adam.
    """
    n = len(d)
    v = torch.linalg.solve(root, d)
    length, along = v.norm(), v / v.norm()
    jacobian = seen.jacobian(root.T)
    count = seen.z.shape[1] * seen.side**2
    # Coordinates in which what is seen is about as steep in all directions: u = y P is what is left of c v + w.
    values, vectors = torch.linalg.eigh(
        torch.eye(n, dtype=d.dtype) + bound**2 * jacobian @ jacobian.T / count
    )
    inward, outward = (vectors @ torch.diag(values**power) @ vectors.T for power in (-0.5, 0.5))

    def parts(y):
        left = y @ inward
        on = left @ along
        return on, left - on[:, None] * along

    def value(y):
        on, across = parts(y)
        rest = bound**2 - across.square().sum(1)
        found = (on + rest.clamp(min=1e-12).sqrt()) / bound
        return torch.where(rest >= 0, found, -torch.inf)

    def project(y):
        on, across = parts(y.detach())
        factor = (0.999 * bound / across.norm(dim=1, keepdim=True).clamp(min=1e-12)).clamp(max=1)
        return (on[:, None] * along + factor * across) @ outward

    numbers = torch.Generator().manual_seed(0)
    start = bound * torch.randn(STARTS, n, generator=numbers, dtype=d.dtype) / n**0.5
    start[0] = 1e-3
    # About what is within the tolerance without any companion.
    with torch.no_grad():
        alone = 1e-3 / seen(1e-3 * d[None]).max().sqrt()
    start = start + alone * v @ outward
    best = ascended(value, seen, lambda y: y @ inward @ root.T, project, start, steps=steps)
    return best * bound / float(length)


def low_pass(seen, band, frame, *, steps):
    """Return the largest root mean square, within a frame, of a change of frequencies up to a band that is within the tolerance.

    Args:
        seen: `Seen`.
        band: cycles per pixel.
        frame: pixels.
        steps: of Adam.
    """
    rows, columns = seen.x.shape[-2:]
    radius = torch.fft.fftfreq(rows)[:, None].square() + torch.fft.fftfreq(columns)[None, :].square()
    unit = torch.eye(rows * columns, dtype=seen.x.dtype).view(-1, rows, columns)
    passed = torch.fft.ifft2(torch.fft.fft2(unit) * (radius <= band**2)).real.flatten(1)
    values, vectors = torch.linalg.eigh(passed)
    basis = vectors[:, values > 0.5].T
    jacobian = seen.jacobian(basis)
    count = seen.z.shape[1] * seen.side**2
    gram = jacobian @ jacobian.T / count
    values, vectors = torch.linalg.eigh(gram + 1e-6 * gram.diagonal().mean() * torch.eye(len(gram)))
    inward = vectors @ torch.diag(values**-0.5) @ vectors.T
    inside = torch.zeros(rows, columns, dtype=torch.bool)
    inside[frame : rows - frame, frame : columns - frame] = True
    inside = inside.flatten()

    def size(y):
        return (y @ inward @ basis)[:, inside].square().mean(1).sqrt()

    numbers = torch.Generator().manual_seed(0)
    start = torch.randn(STARTS, len(gram), generator=numbers, dtype=seen.x.dtype)
    scale = float(size(start).mean())
    return scale * ascended(
        lambda y: size(y) / scale,
        seen,
        lambda y: y @ inward @ basis,
        lambda y: y.detach().clone(),
        start,
        steps=steps,
    )
