"""The gate: owns the public port, decides who may come in, holds requests while the child is away."""
