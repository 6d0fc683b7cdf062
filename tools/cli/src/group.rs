//! Groups: listing, making, bounding and removing them.

use anyhow::Result;
use lanelog::inspect;

use crate::args::{Group, GroupMove, Start};
use crate::hand::change;
use crate::look;

/// `lanelog group`.
pub fn group(args: &Group) -> Result<u8> {
    anyhow::ensure!(args.start.is_none() || args.what == GroupMove::Create, "--start goes with `group create` alone");
    let is_bounding = matches!(args.what, GroupMove::Create | GroupMove::Retain);
    anyhow::ensure!(
        is_bounding || !args.keeps.is_given(),
        "--keep-… and --beyond go with `group create` and `group retain`"
    );
    let name = args.name.as_deref().unwrap_or_default();
    match args.what {
        GroupMove::List => {
            anyhow::ensure!(args.name.is_none(), "`group list` takes no name");
            let names = inspect(&args.queue)?.stats().groups.into_iter().map(|group| group.name + "\n");
            look::say(&names.collect::<String>())
        }
        GroupMove::Create => {
            let start = args.start.unwrap_or(Start::Oldest).into();
            change(&args.queue, |queue| queue.create_group_with(name, start, args.keeps.retention())).map(|()| 0)
        }
        GroupMove::Retain => change(&args.queue, |queue| queue.set_retention(name, args.keeps.retention())).map(|()| 0),
        GroupMove::Remove => change(&args.queue, |queue| queue.remove_group(name)).map(|()| 0),
    }
}
