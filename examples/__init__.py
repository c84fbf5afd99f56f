"""What a person reads and runs. A package, so that no `examples` of the environment is taken for it."""
