"""The bridge from `recipe.asymgrpo` to verl's registries. Importing this package alone imports nothing."""
