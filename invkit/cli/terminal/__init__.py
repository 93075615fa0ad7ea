"""What all commands share: output, options, progress, and imports that take their time."""
