"""The models that the quickstart trains; `examples/quickstart/base_model.py` makes them."""
