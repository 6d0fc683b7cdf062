"""Prints llvm-cov's summary as a table per room, without the files of tests; exits with 1 below a room's floor.

Usage: coverage.py SUMMARY.json ROOM:PERCENT…
"""
import json
import os
import sys

KINDS = ("lines", "regions", "branches")


def is_test(name):
    return "/tests/" in name or name.endswith("/tests.rs")


def row(name, counts):
    cells = [f"{done:>6}/{all_:<6}{100 * done / all_ if all_ else 100:6.1f} %" for done, all_ in counts]
    return f"{name:<36}" + "".join(cells)


def table(files, room):
    """Prints a room's files and gives the room's counts."""
    total = [[0, 0] for _ in KINDS]
    for name in sorted(name for name in files if name.startswith(room) and not is_test(name)):
        counts = [(files[name][kind]["covered"], files[name][kind]["count"]) for kind in KINDS]
        print(row(name, counts))
        for sum_, count in zip(total, counts):
            sum_[0] += count[0]
            sum_[1] += count[1]
    print(row(f"= {room}", total), end="\n\n")
    return total


def main():
    summary, rooms = sys.argv[1], sys.argv[2:]
    with open(summary, encoding="utf-8") as file:
        data = json.load(file)["data"][0]
    files = {os.path.relpath(file["filename"]): file["summary"] for file in data["files"]}
    print(f"{'':<36}" + "".join(f"{kind:>14}{'':<8}" for kind in KINDS))
    totals, low = [], []
    for room, floor in (room.rsplit(":", 1) for room in rooms):
        total = table(files, room)
        totals.append(total)
        done, all_ = total[KINDS.index("branches")]
        if all_ == 0:
            low.append(f"{room}: no branch was counted")
        elif 100 * done < float(floor) * all_:
            low.append(f"{room}: {100 * done / all_:.1f} % of its branches, and the floor is {floor} %")
    print(row("= all", [[sum(t[at][side] for t in totals) for side in (0, 1)] for at in range(len(KINDS))]))
    sys.exit("\n".join(low) or 0)


main()
