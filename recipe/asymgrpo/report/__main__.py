import sys

from recipe.asymgrpo.report.page import main

sys.exit(main())
