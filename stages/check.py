"""Check params.yaml before any stage works and before DVC takes away any old output.

DVC removes a stage's outputs before it runs the stage. All other stages depend on the constant
file that this one writes, so a setting that cannot be used stops the pipeline here.
"""

from stages import run


def main() -> None:
    import os
    from pathlib import Path

    from genre_embeddings.errors import InputError
    from genre_embeddings.settings import load_settings

    data = load_settings().data
    path = data.path
    if data.source != "planted":
        from genre_embeddings.data.sources import require_whole

        require_whole(data)
    if not Path(path).exists():
        if path.startswith("~") or "$" in path:
            meant = os.path.expandvars(os.path.expanduser(path))  # noqa: PTH111 (no such user)
            advice = repr(meant) if meant != path else "the whole path"
            raise InputError(
                f"data.path is {path!r}, and DVC does not replace '~' or '$': write {advice}."
            )
        raise InputError(
            f"data.path is {path!r}, which does not exist; allowed: a folder or an archive "
            "on this machine. Name one, or put `data/raw` back in its place."
        )
    Path("data/checked").write_text("params.yaml was read and every setting can be used\n")


if __name__ == "__main__":
    run(main)
