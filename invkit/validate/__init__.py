"""What the method finds against truth in closed form: `invkit validate`."""
