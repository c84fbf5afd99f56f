"""A page about training runs: ``python -m recipe.asymgrpo.report RUN [RUN ...] [--out DIR]``."""
