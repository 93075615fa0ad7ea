"""The first two parts of the flow: a shift and scale that the embedding gives, and a whitening matrix."""

__all__ = ["ConditionalAffine", "Whitening"]

import torch
from torch import Tensor, nn

from invkit.flow.base import Part
from invkit.flow.layers import soft_clamp
from invkit.training.precision import in_float64


class ConditionalAffine(Part):
    """v = (z_bar - m) * exp(s), where the embedding itself is h = (m, s), of size k = 2 d.

    m is what the embedder expects the code to be and s its log-precision; s is bounded softly by `clamp`. It
    has no parameters of its own.

    Args:
        clamp: bound of abs(s).
    """

    def __init__(self, clamp: float) -> None:
        super().__init__()
        self.clamp = clamp

    def log_precision(self, h: Tensor) -> Tensor:
        """Return s `(..., d)` as bounded."""
        return soft_clamp(h.chunk(2, -1)[1], self.clamp)

    def forward(self, z_bar: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        """Subtract what is expected, divide by how uncertain it is."""
        m, s = h.chunk(2, -1)[0], self.log_precision(h)
        return (z_bar - m) * s.exp(), s.sum(-1).expand(z_bar.shape[:-1])

    def inverse(self, v: Tensor, h: Tensor) -> Tensor:
        """Undo `forward`."""
        m, s = h.chunk(2, -1)[0], self.log_precision(h)
        return v * (-s).exp() + m


class Whitening(Part):
    """v = W z_bar + shift with W lower triangular and a positive diagonal; log_det is the sum of log W_ii.

    It removes the correlations that are the same for every condition, so that the couplings need not learn
    them.

    Args:
        d: number of dimensions.
    """

    rows: Tensor
    columns: Tensor

    def __init__(self, d: int) -> None:
        super().__init__()
        rows, columns = torch.tril_indices(d, d, -1, device="cpu")
        self.register_buffer("rows", rows, persistent=False)
        self.register_buffer("columns", columns, persistent=False)
        self.log_diagonal = nn.Parameter(torch.zeros(d))
        self.below = nn.Parameter(torch.zeros(d * (d - 1) // 2))
        self.shift = nn.Parameter(torch.zeros(d))

    def _matrix(self) -> Tensor:
        return torch.diag(self.log_diagonal.exp()).index_put((self.rows, self.columns), self.below)

    def forward(self, z_bar: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        """Multiply by W and shift; h is not used."""
        return z_bar @ self._matrix().T + self.shift, self.log_diagonal.sum().expand(z_bar.shape[:-1])

    def inverse(self, v: Tensor, h: Tensor) -> Tensor:
        """Solve the triangular system."""
        flat = (v - self.shift).reshape(-1, v.shape[-1])
        solved: Tensor = torch.linalg.solve_triangular(self._matrix(), flat.T, upper=False)
        return solved.T.reshape(v.shape)

    @torch.no_grad()
    def set_moments(self, mean: Tensor, covariance: Tensor) -> None:
        """Choose W and the shift so that input of this mean `(d,)` and covariance `(d, d)` leaves as N(0, 1).

        W is the inverse of the Cholesky factor, computed in float64.
        """
        factor = torch.linalg.cholesky(in_float64(covariance))
        unit = torch.eye(len(factor), dtype=factor.dtype, device=factor.device)
        matrix = torch.linalg.solve_triangular(factor, unit, upper=False)
        self.log_diagonal.copy_(matrix.diagonal().log())
        self.below.copy_(matrix[self.rows.to(matrix.device), self.columns.to(matrix.device)])
        self.shift.copy_(-matrix @ in_float64(mean))
