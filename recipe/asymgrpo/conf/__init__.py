"""Hydra files. A regular package, because Hydra calls a `pkg://` place without this file unavailable, and warns."""
