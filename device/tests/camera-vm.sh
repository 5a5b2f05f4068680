#!/usr/bin/env bash
# `camera://0` against a real V4L2 device, in a virtual machine with the kernel's virtual camera (vivid).
#
#   device/tests/camera-vm.sh [CAMERA_VM]
#
# CAMERA_VM is a program that boots such a machine and runs a command in it; without it, the one beside the
# repository is taken. Builds fmlora-edge with cameras, lets it watch the camera, unplugs the camera and plugs it in
# again, lets it fall silent and speak again (if v4l2-ctl is there), and asks for a format that is not offered.
# Prints the figures and ends with 0. Ends with 1 if the daemon did not do what it has to, and with 77, after a line
# that begins with "skipped", if something needed is not there.
set -euo pipefail
export LC_ALL=C
cd "$(dirname "$0")/../.."

tool=${1:-../shared/tools/camera-vm/camera-vm}

# Longest silence of the source before it is opened anew, in seconds: the daemon's default.
readonly TIMEOUT=5
# Seconds in which trouble has to be reported after an unplugging.
readonly NOTICE=5
# Seconds in which frames have to come after a replugging or after a silence: the longest pause between two tries
# (2 s in the configuration below), and as much for opening and for an emulated processor.
readonly RECOVER=8
# Frames that have to be answered before, between and after what is done to the camera.
readonly FRAMES=20

skip() { echo "skipped: $*"; exit 77; }
say() { printf '\n-- %s\n' "$*"; }

[ -x "$tool" ] || skip "no program at $tool that runs a virtual machine with a camera"
for needed in qemu-system-x86_64 busybox cpio depmod awk; do
    PATH=$PATH:/usr/sbin:/sbin command -v "$needed" >/dev/null || skip "$needed is not there"
done
libclang=$(find "${LIBCLANG_PATH:-/usr/lib}" /usr/lib64 -name 'libclang*.so*' -print -quit 2>/dev/null || true)
[ -n "$libclang" ] || skip "libclang is not there, which cameras need to be built"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# It may have to fetch a kernel first.
if ! "$tool" -- "$(type -P true)" >"$work/boot" 2>&1; then
    cat "$work/boot"
    skip "the virtual machine does not start"
fi

say "build fmlora-edge with cameras"
# With the features that the tests build with, so that dependencies are built once.
cargo build --workspace --bins --tests --locked --features fmlora-device/camera
mkdir "$work/share"
built=${CARGO_TARGET_DIR:-target}/debug
program=$built/fmlora-edge
strip -o "$work/share/fmlora-edge" "$program" 2>/dev/null || cp "$program" "$work/share/fmlora-edge"
# A network of two blocks: the embedded one takes an emulated processor ten seconds a frame, and it is the camera that
# is looked at here.
"$built/host-tools" --device cpu import-weights tests/golden/vit-plain/weights.safetensors --heads 3 --out "$work/vit" >"$work/made"
"$built/host-tools" --device cpu export-bases --from "$work/vit" --out "$work/share/base.fmlb" >>"$work/made"

configure() { # NAME SOURCE
    cat >"$work/share/$1.toml" <<TOML
base = "/share/base.fmlb"
state = "/tmp/state"
[camera]
source = "$2"
fps = 5
timeout_seconds = $TIMEOUT
retry_seconds = 2
[http]
enabled = false
TOML
}
configure run camera://0
configure offered 'camera://0?format=nv12&width=640&height=360'
configure refused 'camera://0?format=mjpeg&width=800'
configure missing camera://7

# What is done in the machine. Each line that it prints begins with the machine's time in seconds.
cat >"$work/share/scenario" <<'GUEST'
#!/bin/sh
frames=$1
now() { read -r up _ </proc/uptime; }
event() { now; echo "$up EVENT $*"; }
edge="/share/fmlora-edge --json --device cpu"
for name in offered refused missing; do
    $edge check --config /share/$name.toml >/tmp/checked
    event "check $name $? $(cat /tmp/checked)"
done
$edge run --config /share/run.toml --seconds 200 | {
    phase=watching n=0
    while read -r line; do
        now
        echo "$up $line"
        case $phase,$line in
            watching,*'"frame":'*|back,*'"frame":'*|cured,*'"frame":'*) n=$((n + 1)) ;;
            unplugged,*'"open":false'*)
                phase=missed
                (sleep 4; event plug; camera-plug) & ;;
            missed,*'"open":true'*) phase=back n=0 ;;
            silenced,*'"open":false'*)
                phase=silent
                (sleep 2; event speak; v4l2-ctl -c percentage_of_dropped_buffers=0) & ;;
            silent,*'"open":true'*) phase=cured n=0 ;;
        esac
        [ $n -ge "$frames" ] || continue
        n=0
        case $phase in
            watching)
                phase=unplugged
                (event unplug; camera-unplug) & ;;
            back)
                phase=done
                if command -v v4l2-ctl >/dev/null; then
                    phase=silenced
                    (event silence; v4l2-ctl -c percentage_of_dropped_buffers=100) &
                else
                    kill -TERM $(pidof fmlora-edge)
                fi ;;
            cured)
                phase=done
                kill -TERM $(pidof fmlora-edge) ;;
        esac
    done
}
GUEST
chmod +x "$work/share/scenario"

say "watch, unplug, plug in"
more=()
if command -v v4l2-ctl >/dev/null; then more=(--add v4l2-ctl); else echo "without v4l2-ctl, no camera falls silent"; fi
ended=0
"$tool" --timeout 400 --share "$work/share" ${more[@]+"${more[@]}"} -- /share/scenario "$FRAMES" \
    >"$work/log" 2>"$work/errors" || ended=$?

# ------------------------------------------------------------------ what came of it

fail() {
    echo "FAILED: $*"
    echo "what the machine said:"
    cut -c 1-400 "$work/log"
    tail -n 40 "$work/errors"
    exit 1
}
[ "$ended" -eq 0 ] || fail "the run ended with $ended"

checked() { sed -n "s/^[0-9.]* EVENT check $1 //p" "$work/log"; }
expect() { # NAME STATUS TEXT...
    local said text
    said=$(checked "$1")
    [ "${said%% *}" = "$2" ] || fail "check $1 ended with '${said%% *}', expected $2"
    for text in "${@:3}"; do
        [[ $said = *"$text"* ]] || fail "check $1 does not say '$text'"
    done
}
expect offered 0 '"width":640' '"height":360'
expect refused 1 'does not offer format=mjpeg&width=800' 'yuyv' '640x480@'
expect missing 1 'there is no camera 7; there are 0 ('

# Of each event: how long until the source is reported closed, open, and how many frames followed.
awk -v limit="$FRAMES" '
    $2 == "EVENT" { event = $3; at[event] = $1; next }
    # "frame" of an answer is its number; that of a check is an object.
    match($0, /"frame":[0-9]+/) {
        number = substr($0, RSTART + 8, RLENGTH - 8)
        if (event == "check" && first == "") { first = number; since = $1 }
        if (event == "check") { last = number; until = $1 }
        if (opened[event] != "") answered[event]++
    }
    /"open":false/ && closed[event] == "" {
        closed[event] = $1
        match($0, /"trouble":"[^"]*"/)
        trouble[event] = substr($0, RSTART + 11, RLENGTH - 12)
    }
    /"open":true/ && opened[event] == "" { opened[event] = $1 }
    match($0, /"ended":\{.*/) { report = substr($0, RSTART + 8) }
    function figure(name, value) { print name "=" value }
    function span(name, from, to) { figure(name, from == "" || to == "" ? "none" : sprintf("%.2f", to - from)) }
    END {
        figure("fps", until > since ? sprintf("%.2f", (last - first) / (until - since)) : "none")
        span("noticed", at["unplug"], closed["unplug"])
        figure("unplug_trouble", trouble["unplug"])
        span("recovered", at["plug"], opened["plug"])
        figure("answered_after_plug", answered["plug"] + 0)
        span("silence_noticed", at["silence"], closed["silence"])
        figure("silence_trouble", trouble["silence"])
        span("silence_recovered", at["speak"], opened["speak"])
        figure("answered_after_silence", answered["speak"] + 0)
        figure("report", report)
    }' "$work/log" >"$work/figures"
cat "$work/figures"

figure() { sed -n "s/^$1=//p" "$work/figures"; }
within() { awk -v value="$1" -v most="$2" 'BEGIN { exit !(value ~ /^[0-9.]+$/ && value + 0 <= most + 0) }'; }
at_most() { # NAME MOST
    within "$(figure "$1")" "$2" || fail "$1 is $(figure "$1") s, expected at most $2 s"
}
enough() { # NAME
    within "$FRAMES" "$(figure "$1")" || fail "$1 is $(figure "$1"), expected $FRAMES or more"
}
# 5 are asked for; an emulated processor beside others may not keep up.
within 1 "$(figure fps)" || fail "$(figure fps) frames a second, expected 1 or more"
at_most noticed "$NOTICE"
[[ $(figure unplug_trouble) = *unplugged* ]] || fail "an unplugging is told as '$(figure unplug_trouble)'"
at_most recovered "$RECOVER"
enough answered_after_plug
if [ ${#more[@]} -gt 0 ]; then
    # The silence begins with the last frame before it, and is looked at every 50 ms.
    at_most silence_noticed $((TIMEOUT + 1))
    [[ $(figure silence_trouble) = *"no frame for"* ]] || fail "a silence is told as '$(figure silence_trouble)'"
    at_most silence_recovered "$RECOVER"
    enough answered_after_silence
fi
if grep -q 'resource busy' "$work/errors"; then fail "the camera was opened again before it was closed"; fi
[[ $(figure report) = *'"frames":'* ]] || fail "the daemon did not end in good order"
say "the camera is watched, missed and found again"
