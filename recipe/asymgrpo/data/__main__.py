import sys

from recipe.asymgrpo.data.command import main

sys.exit(main())
