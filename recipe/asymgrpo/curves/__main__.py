import sys

from recipe.asymgrpo.curves.draw import main

sys.exit(main())
