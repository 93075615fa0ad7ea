"""Changes of anatomy: proposed, refined onto the fiber, and what is left of them."""
