"""The conditional invertible network t(z_bar | z): codes to invariances and back, without images."""
