#!/usr/bin/env bash
# From an empty GPU host to the paper's table, and beyond it: reproduce.sh voc|spair [--small]
#   bash cluster/reproduce.sh voc              PascalVOC, published 88.7 %
#   bash cluster/reproduce.sh spair            SPair-71k, published 86.7 %
#   bash cluster/reproduce.sh voc --small      the same steps in minutes on two CPU cores, on ../shared/data, offline
# It needs python3 (3.11 or later) and make. Run it again after Ctrl-C, a crash or a reboot: every step continues where
# it stopped, and a finished step changes nothing. Each command can also be copied and run by itself.
#
# Times. "small" was measured once with voc --small, on two CPU cores that other work kept busy (load 10). All steps
# took 199 s; an idle machine is faster. No step has been timed at full size. The one known figure is the paper's:
# about 9 hours for a training of 12 epochs on PascalVOC, on one A100. Whatever else is said about full size is an
# estimate from it, and says so. Each training prints its own estimate as it begins.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

dataset=${1:-}
size=${2:-}
case "$dataset:$size" in
    voc: | spair: | voc:--small | spair:--small) ;;
    *)
        echo "usage: bash cluster/reproduce.sh voc|spair [--small]" >&2
        exit 2
        ;;
esac
if [ -z "$size" ]; then
    recipe=$dataset                                  # search_spaces/voc.toml: every published value
    raw=${RAW:-data/raw/$dataset}                    # 1.7 GB (voc), 230 MB (spair)
    data=${DATA:-data/$dataset}                      # 0.44 MB an object
    results=${RESULTS:-results/reproduce_$recipe}    # 4 GB a training
    seeds=${SEEDS:-3} trials=${TRIALS:-48} top=3 repeats=${REPEATS:-5}
else
    recipe=${dataset}_small                          # the same on a small backbone, 64 pixels, 8 steps
    raw=${RAW:-../shared/data/$dataset}
    data=${DATA:-data/$recipe}
    results=${RESULTS:-results/reproduce_$recipe}
    seeds=${SEEDS:-2} trials=${TRIALS:-3} top=1 repeats=${REPEATS:-3}
fi
step() { printf '\n=== %s\n' "$1"; }

# 1. Set-up. Installs the locked packages into .venv; prints "Installing 6 GB of packages". Two to four minutes
#    (measured on two cores), once. A virtual environment that is active already is taken as it is.
step "1 of 8: set-up"
if [ -z "${VIRTUAL_ENV:-}" ]; then
    make setup EXTRAS=
    export PATH="$PWD/.venv/bin:$PATH"
fi

# 2. Download. Prints the folder once every archive is there, checked and unpacked. The time is that of the network.
#    Archives that are complete are not fetched again.
step "2 of 8: download"
if [ -z "$size" ]; then
    python run.py --download "$dataset" --raw "$raw"
else
    echo "$raw: no download with --small"
fi

# 3. Prepare. Cuts, resizes and stores every object; prints how many each category has in train, val and test, and what
#    the protocol leaves out. Then --check decodes every image again and compares every file with its checksum.
#    small: 16 s. Full size: not measured.
step "3 of 8: prepare"
python run.py --prepare "$recipe" --raw "$raw" --data "$data"
python run.py --prepare "$recipe" --data "$data" --check

# 4. Train the published recipe, with several seeds, because one says nothing about the spread. As published, it trains
#    on all of train: on what is train and val in the other steps. So nothing is left to validate with, and the weights
#    of the last epoch count. Prints the estimated time, then a bar of steps with the loss of each epoch.
#    small: 47 and 78 s a seed. Full size: 9 hours a seed on an A100 (the paper's figure for voc); three seeds would
#    take 27 (an estimate). With several GPUs add --workers N, which trains one model on all of them with the same
#    result.
step "4 of 8: train $seeds seeds"
for ((seed = 0; seed < seeds; seed++)); do
    python run.py --train "$recipe" --seed "$seed" --data "$data" --results "$results/published/$seed" --resume \
        --set data.train_split=train+val
done

# 5. Test, as published: the test split is read once for each seed, and never before. Prints the paper's table: each
#    category and their mean, as the mean over the seeds with its 95 % interval, beside three baselines that train
#    nothing. It is also written to published/test.md.
#    small: 9 s. Full size: not measured.
step "5 of 8: test the published recipe"
python run.py --evaluate published --split test --data "$data" --results "$results"

# 6. Search for something better. Reads train and val alone. Prints a line per event, then the table of trials, best
#    first. Most trials stop early. In full, 48 trials would be 48 times step 4's training; the first lines print the
#    epochs that are planned. To share the work between machines, see docs/cluster.md.
#    small: 25 s for 3 trials. Full size: not measured.
step "6 of 8: search"
python run.py --search "$recipe" --trials "$trials" --data "$data" --results "$results" --resume

# 7. Confirm. Trains the best configurations and the published one again, with seeds that the search has not seen.
#    Prints the mean of each, and the differences with intervals that hold together with 95 %. It names a winner only if
#    its interval lies above 0. Only then --final trains both again on train and val, and reads the test split for these
#    trainings.
#    small: 22 s for 4 trainings, and it trains 6. Full size: (top + 1) x repeats trainings, 20 with the values here.
step "7 of 8: confirm"
python run.py --confirm "$recipe" --top "$top" --seeds "$repeats" --final --data "$data" --results "$results"

# 8. Report. One file: the paper's table (step 5), then the search and its confirmation (steps 6 and 7).
#    small: 1 s.
step "8 of 8: report"
{
    cat "$results/published/test.md"
    printf '\n## Search and confirmation\n\n```\n'
    python run.py --report "$recipe" --results "$results"
    printf '```\n'
} > "$results/table.md.part"
mv "$results/table.md.part" "$results/table.md"
cat "$results/table.md"
printf '\nwritten to %s\n' "$results/table.md"
