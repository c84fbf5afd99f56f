"""Makes `+asymgrpo=NAME` resolve on the command line of `verl.trainer.main_ppo`, in any directory.

Hydra imports every module of the namespace package `hydra_plugins` in every Hydra application of the environment, so
this one imports Hydra only and adds one place, at the end of the search path: it hides no one's file, and the folder
has one config group (`asymgrpo`) and one file (`asymgrpo_knobs.yaml`), both with names of our own.
"""

from hydra.core.config_search_path import ConfigSearchPath
from hydra.plugins.search_path_plugin import SearchPathPlugin


class AsymGRPOSearchPathPlugin(SearchPathPlugin):
    """Appends `recipe/asymgrpo/conf`."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        search_path.append(provider="verl-asymgrpo", path="pkg://recipe.asymgrpo.conf")
