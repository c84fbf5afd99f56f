"""verl's platform "cpu": its device, engine, rollout and replay buffer."""
