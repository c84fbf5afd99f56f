import sys

from verl_ext.watch.command import main

sys.exit(main())
