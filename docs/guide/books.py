"""Generate readers, books and ratings for docs/guide/own-data.md.

    python docs/guide/books.py READERS FOLDER

Each genre has a position on three axes of taste; readers like genres near their own taste. The same
number of readers gives the same files.
"""

import csv
import sys
from pathlib import Path

import numpy as np

AXES = ("dark", "invented", "learned")
PLACES = {
    "Biography": (-0.2, -0.9, 0.6),
    "Children": (-0.8, 0.6, -0.2),
    "Crime": (0.9, -0.3, 0.0),
    "Essays": (0.0, -0.6, 0.9),
    "Fantasy": (0.0, 1.0, -0.2),
    "History": (0.2, -0.8, 0.7),
    "Horror": (0.9, 0.5, -0.3),
    "Poetry": (-0.2, 0.1, 0.9),
    "Romance": (-0.6, -0.2, -0.9),
    "Science Fiction": (0.3, 0.9, 0.3),
    "Thriller": (0.9, -0.1, -0.4),
    "Travel": (-0.5, -0.7, 0.4),
}
FIRST = "Broken Burning Glass Golden Hidden Last Paper Salt Silent Winter"
SECOND = "Crown Garden Harbour Island Letter Machine Mirror Orchard River Road"


def main(readers: int, folder: Path) -> None:
    """Write ratings.csv and movies.csv, which keep these names whatever is rated."""
    rng = np.random.default_rng(0)
    genres = list(PLACES)
    places = np.array(list(PLACES.values()))  # (genres, axes)
    places /= np.linalg.norm(places, axis=1, keepdims=True)
    titles = [f"{first} {second}, The" for first in FIRST.split() for second in SECOND.split()]
    sets = [rng.choice(len(genres), rng.integers(1, 4), replace=False) for _ in titles]
    merit = rng.normal(0, 0.7, len(titles))

    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "movies.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["movieId", "title", "genres"])
        for book, (title, chosen) in enumerate(zip(titles, sets, strict=True)):
            table.writerow([f"B{book:02}", title, "|".join(genres[k] for k in sorted(chosen))])
    with (folder / "ratings.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["userId", "movieId", "rating"])
        for reader in range(readers):
            taste, mood = rng.normal(size=len(AXES)), rng.normal(0, 0.8)
            for book in rng.choice(len(titles), rng.integers(8, 40), replace=False):
                liking = places[sets[book]].sum(0) @ taste / np.sqrt(len(sets[book]))
                rating = 6.5 + mood + merit[book] + 1.3 * liking + rng.normal(0, 1.1)
                table.writerow([f"reader{reader:03}", f"B{book:02}", int(np.clip(rating, 1, 10))])


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
