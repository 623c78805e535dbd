"""A rank's place as Lightning reads it. Lightning's own environments believe variables that any batch script has."""

from lightning_fabric.plugins.environments.cluster_environment import ClusterEnvironment

from .launchers import Launcher


class PlacedRanks(ClusterEnvironment):
    """Lightning's view of a Launcher."""

    def __init__(self, launcher: Launcher):
        self.launcher = launcher

    @property
    def creates_processes_externally(self) -> bool:
        return True

    @property
    def main_address(self) -> str:
        return self.launcher.address

    @property
    def main_port(self) -> int:
        return self.launcher.port

    @staticmethod
    def detect() -> bool:
        return False

    def world_size(self) -> int:
        return self.launcher.world_size

    def set_world_size(self, size: int) -> None:
        """Given by the launcher."""

    def global_rank(self) -> int:
        return self.launcher.rank

    def set_global_rank(self, rank: int) -> None:
        """Given by the launcher."""

    def local_rank(self) -> int:
        return self.launcher.local_rank

    def node_rank(self) -> int:
        return self.launcher.node
