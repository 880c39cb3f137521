"""OGBench's maze maps (MIT, seohongpark/ogbench; Park et al. 2024, 2410.20092), their tasks, and shortest paths.

A cell is (row, column); its middle is at x = 4 column - 4, y = 4 row - 4. "#" is wall, "." is free.
"""

import collections
import functools

import numpy as np

from world_models.core.errors import UserError

UNIT, OFFSET = 4.0, 4.0
MOVES = ((-1, 0), (0, -1), (1, 0), (0, 1))  # in the order in which the published expert prefers them

MAPS = {
    "medium": """
        ########
        #..##..#
        #..#...#
        ##...###
        #..#...#
        #.#..#.#
        #...#..#
        ########""",
    "large": """
        ############
        #....#.....#
        #.##.#.#.#.#
        #......#...#
        #.####.###.#
        #..#.#.....#
        ##.#.#.#.###
        #..#...#...#
        ############""",
    "giant": """
        ################
        #.#......##....#
        #.#.##.#.#..##.#
        #...#..#...#...#
        #.###.######.#.#
        #...#...#....#.#
        ###.#.#..#.#.###
        #...#..#...#...#
        #.#.#.######.#.#
        #.###...#...##.#
        #.....#...#....#
        ################""",
}
TASKS = {  # (start, goal) of the benchmark's tasks 1 to 5
    "medium": (((1, 1), (6, 6)), ((6, 1), (1, 6)), ((5, 3), (4, 2)), ((6, 5), (6, 1)), ((2, 6), (1, 1))),
    "large": (((1, 1), (7, 10)), ((5, 4), (7, 1)), ((7, 4), (1, 10)), ((3, 8), (5, 4)), ((1, 1), (5, 4))),
    "giant": (((1, 1), (10, 14)), ((1, 14), (10, 1)), ((8, 14), (1, 1)), ((8, 3), (5, 12)), ((5, 9), (3, 8))),
}


def walls(name: str) -> np.ndarray:
    """Bool [rows, columns], true where a cell is wall.

    Raises:
      UserError: if there is no such map.
    """
    if name not in MAPS:
        raise UserError(f"maze={name!r} must be one of {', '.join(MAPS)}.")
    return np.array([[c == "#" for c in line] for line in MAPS[name].split()])


def centre(cell: np.ndarray) -> np.ndarray:
    """Positions (x, y) [..., 2] of the middles of cells (row, column) [..., 2]."""
    return UNIT * np.asarray(cell)[..., ::-1] - OFFSET


def corners(wall: np.ndarray) -> np.ndarray:
    """Cells [n, 2] that are free and not part of a corridor, as the goals of the published expert."""
    around = np.pad(wall, 1, constant_values=True)
    up, down, left, right = around[:-2, 1:-1], around[2:, 1:-1], around[1:-1, :-2], around[1:-1, 2:]
    upright, level = ~up & ~down & left & right, up & down & ~left & ~right
    return np.argwhere(~wall & ~upright & ~level)


@functools.cache
def shortest_paths(name: str) -> tuple[np.ndarray, np.ndarray]:
    """Shortest paths between all cells, by breadth-first search.

    Returns:
      Distances int32 [rows, columns, rows, columns] in cells, from the first cell to the second, -1 without a path; and
      the next cell of the path, int32 [rows, columns, rows, columns, 2], which is the cell itself at the goal.
    """
    wall = walls(name)
    distance = np.full((*wall.shape, *wall.shape), -1, np.int32)
    following = np.zeros((*wall.shape, *wall.shape, 2), np.int32)
    for goal in map(tuple, np.argwhere(~wall)):
        far = distance[:, :, goal[0], goal[1]]
        far[goal] = 0
        queue = collections.deque([goal])
        while queue:
            cell = queue.popleft()
            for near in _free_neighbours(wall, cell):
                if far[near] < 0:
                    far[near] = far[cell] + 1
                    queue.append(near)
        for cell in map(tuple, np.argwhere(far >= 0)):
            # min takes the first of equals, and the cell itself only where no neighbour is nearer
            following[*cell, *goal] = min([cell, *_free_neighbours(wall, cell)], key=lambda c: far[c])
    return distance, following


def _free_neighbours(wall: np.ndarray, cell: tuple[int, int]) -> list[tuple[int, int]]:
    """The map's border is wall, so neighbours of free cells are on the map."""
    return [(r, c) for r, c in ((cell[0] + a, cell[1] + b) for a, b in MOVES) if not wall[r, c]]
