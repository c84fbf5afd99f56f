import sys

from recipe.asymgrpo.data import main

sys.exit(main())
