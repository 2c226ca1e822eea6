#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# From nothing to a federation of five nodes on this machine, a round of learning, and one member revoked. README.md explains each step.
# Every command is printed before it runs; what it leaves is in one folder, which is removed at the end.
set -eu

usage() {
    cat <<'TEXT'
usage: run.sh [--dir DIR] [--dummy] [--rounds N]
  --dir DIR    work in DIR, which must be new or empty, and keep it (default: a temporary folder that is removed)
  --dummy      a model without meaning and no data, for a machine without dataset-fashion-mnist
  --rounds N   rounds of the first learning (default 2)
The program is $P2PFL, else p2pfl of the PATH.
TEXT
}

dir= dummy= rounds=2
while [ $# -gt 0 ]; do
    case $1 in
    --dir) dir=${2:?--dir wants a folder}; shift 2 ;;
    --dummy) dummy=yes; shift ;;
    --rounds) rounds=${2:?--rounds wants a number}; shift 2 ;;
    -h | --help) usage; exit 0 ;;
    *) usage >&2; exit 2 ;;
    esac
done

here=$(cd "$(dirname "$0")" && pwd)
program=${P2PFL:-p2pfl}
case $program in */*) program=$(cd "$(dirname "$program")" && pwd)/$(basename "$program") ;; esac
command -v "$program" > /dev/null || { echo "run.sh: $program is not there: make build, then P2PFL=build/app/p2pfl $0" >&2; exit 1; }
nodes="hospital-a hospital-b hospital-c hospital-d hospital-e"
started= # process ids of what runs behind this script

p2pfl() { "$program" "$@"; }

show() { printf '\n$ p2pfl %s\n' "$*"; }

run() { show "$@"; p2pfl "$@"; }

chapter() { printf '\n== %s\n' "$*"; }

fail() {
    echo "run.sh: $*" >&2
    for log in "$PWD"/*.log; do [ ! -f "$log" ] || { echo "--- $(basename "$log")"; tail -n 15 "$log"; } >&2; done
    exit 1
}

# start LOG arguments...: runs p2pfl in the background
start() {
    log=$1
    shift
    printf '\n$ p2pfl %s &\n' "$*"
    "$program" "$@" > "$log" 2>&1 &
    started="$started $!"
}

# wait_for SECONDS WHAT command...: until the command says yes
wait_for() {
    tries=$(($1 * 5)) what=$2
    shift 2
    until "$@"; do
        tries=$((tries - 1))
        [ $tries -gt 0 ] || fail "$what: that took too long"
        sleep 0.2
    done
}

clean_up() {
    status=$?
    trap - EXIT INT TERM
    for pid in $started; do kill "$pid" 2> /dev/null || :; done
    for pid in $started; do wait "$pid" 2> /dev/null || :; done
    cd /
    [ -n "$dir" ] || rm -rf "$work"
    exit $status
}

if [ -n "$dir" ]; then
    mkdir -p "$dir"
    [ -z "$(ls -A "$dir")" ] || { echo "run.sh: $dir is not empty" >&2; exit 1; }
    work=$dir
else
    work=$(mktemp -d "${TMPDIR:-/tmp}/p2pfl-federation.XXXXXX")
fi
cd "$work"
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

if [ -z "$dummy" ] && [ ! -d /usr/share/datasets/fashion-mnist ]; then
    echo "no Fashion-MNIST here (Debian: dataset-fashion-mnist): going on as with --dummy"
    dummy=yes
fi
if [ -n "$dummy" ]; then
    sed -e '/^learner:/,$d' "$here/federation.yaml" > federation.yaml
    printf 'learner: {dataset: dummy, model: dummy, dummy_values: 20000, dummy_delay_ms: 50}\n' >> federation.yaml
else
    cp "$here/federation.yaml" federation.yaml
fi

chapter "1. A certificate authority"
(umask 077 && head -c 24 /dev/urandom | od -An -tx1 | tr -d ' \n' > passphrase && echo >> passphrase)
run ca init ca --federation clinics --passphrase-file passphrase

chapter "2. Its service, which new nodes talk to"
start ca.log ca serve --ca ca --listen 127.0.0.1:0 --settings federation.yaml --passphrase-file passphrase
wait_for 30 "the CA's service listens" grep -q '^CA service' ca.log
cat ca.log

chapter "3. Five nodes join"
for node in $nodes; do
    role=node
    [ "$node" = hospital-a ] && role=coordinator # it starts the learning
    show ca token --ca ca --name "$node" --role $role --san IP:127.0.0.1,DNS:localhost --ttl 10m
    line=$(p2pfl ca token --ca ca --name "$node" --role $role --san IP:127.0.0.1,DNS:localhost --ttl 10m)
    echo "$line"
    printf '\n$ %s --dir %s --address 127.0.0.1:0\n' "$line" "$node"
    $line --dir "$node" --address 127.0.0.1:0 # the line as it was printed: "p2pfl join HOST:PORT --token ... --ca-hash ..."
done
if [ -z "$dummy" ]; then # each hospital has its own data; here each takes another fifth of one set
    part=0
    for node in $nodes; do
        sed -i "s/^  part_index: .*/  part_index: $part/" "$node/node.yaml"
        part=$((part + 1))
    done
fi
run ca list --ca ca

chapter "4. They start"
for node in $nodes; do start "$node.log" node start -c "$node/node.yaml"; done

# What a person reads on the first line of its status: "hospital-a at 127.0.0.1:40081 (mutual TLS)"
address_of() { p2pfl node status --state "$1" 2> /dev/null | sed -n '1s/.* at \([^ ]*\) .*/\1/p'; }
runs() { [ -n "$(address_of "$1")" ]; }
status_says() { p2pfl node status --state "$1" 2> /dev/null | grep -q "$2"; }
has_event() { grep -q "\"event\":\"$2\"" "$1/events.jsonl" 2> /dev/null; }
ended() { [ "$(grep -c '"event":"learning_finished"' "$1/events.jsonl" 2> /dev/null)" -ge "$2" ]; }
for node in $nodes; do wait_for 60 "$node runs" runs "$node"; done

chapter "5. They meet"
first=$(address_of hospital-a)
for node in hospital-b hospital-c hospital-d hospital-e; do run node connect "$first" --state $node; done
for node in $nodes; do wait_for 30 "$node knows the others" status_says "$node" '^4 other nodes known'; done
run node status --state hospital-c

chapter "6. They learn together"
run node learn --state hospital-a --rounds "$rounds" --epochs 1 --trainset-size 5
for node in $nodes; do wait_for 300 "$node finishes" ended "$node" 1; done
run node status --state hospital-b
models=$(sha256sum hospital-?/models/final.safetensors | cut -d' ' -f1 | sort -u | wc -l)
[ "$models" -eq 1 ] || fail "the five nodes have $models different models"
echo "the five models are the same, bit for bit"

chapter "7. One of them is revoked"
run ca revoke hospital-e --ca ca --reason keyCompromise --passphrase-file passphrase
for node in hospital-a hospital-b hospital-c hospital-d; do
    wait_for 30 "$node lets go of hospital-e" status_says "$node" '^3 other nodes known'
done
run node status --state hospital-a
wait_for 30 "hospital-e knows why" grep -q 'revoked' hospital-e.log
printf '\nhospital-e says why it is out:\n'
grep 'revoked' hospital-e.log | tail -n 3
printf '\nand it does not come back:'
show node connect "$first" --state hospital-e
if p2pfl node connect "$first" --state hospital-e; then fail "a revoked node was let in"; fi

chapter "8. The four others go on"
run node learn --state hospital-a --rounds 1 --epochs 1 --trainset-size 4
for node in hospital-a hospital-b hospital-c hospital-d; do wait_for 300 "$node finishes" ended "$node" 2; done
run ca list --ca ca --all
run ca audit --ca ca --verify
printf '\ndone%s\n' "${dir:+: everything is in $PWD}"
