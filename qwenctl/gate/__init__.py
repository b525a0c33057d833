"""The front door: owns the public port, keeps strangers out, holds requests while the child is away."""
