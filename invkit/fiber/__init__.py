"""The fiber {x : Phi(x) = z}: its distance and scale, derivatives of Phi, refinement onto it."""
