"""Drawing samples: the contract of what draws, draws by seed, and their stream."""
