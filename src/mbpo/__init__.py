"""Model-Based Policy Optimisation, where everything is known and where it is not."""

__version__ = "0.1.0"
