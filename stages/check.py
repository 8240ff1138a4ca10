"""Check params.yaml before any stage works and before DVC takes away any old output.

DVC removes a stage's outputs before it runs the stage. All other stages depend on the constant
file that this one writes, so a setting that cannot be used stops the pipeline here.
"""

from stages import run


def main() -> None:
    from pathlib import Path

    from genre_embeddings.settings import load_settings

    load_settings()
    Path("data/checked").write_text("params.yaml was read and every setting can be used\n")


if __name__ == "__main__":
    run(main)
