#!/usr/bin/env bash
# Usage: .github/report.sh REVISION FOLDER
# Writes FOLDER/report.md: the results in the workspace beside those of REVISION, with pictures; and
# the page to it, plots/index.html.
set -euo pipefail
revision=$1 folder=$2
export PATH="$PWD/.venv/bin:$PATH"

mkdir -p "$folder"
dvc plots diff "$revision" workspace --out "$folder/plots" >"$folder/plots.log"
compared=$(./genres compare "$revision" workspace)
metrics=$(dvc metrics diff --md "$revision")

{
    printf '## The results beside those of `%s`\n\n' "$revision"
    printf '```\n%s\n```\n\n' "$compared"
    printf '<details><summary>Metrics that changed</summary>\n\n%s\n\n</details>\n\n' "$metrics"
    for picture in plots/inspect/heatmaps.png plots/evaluate/histogram.png; do
        name=$(basename "$picture")
        cp "$picture" "$folder/after-$name"
        git show "$revision:$picture" >"$folder/before-$name"
        for moment in before after; do
            printf '`%s`, %s:\n\n' "$picture" "$moment"
            printf '![%s, %s](%s-%s)\n\n' "$picture" "$moment" "$moment" "$name"
        done
    done
    printf 'Among the artifacts of the run: `plots/index.html`, to look closer.\n'
} >"$folder/report.md"
