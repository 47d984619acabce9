"""The loggers that come with the project, one a module; nmt.training.logger opens them by name."""
