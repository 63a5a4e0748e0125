#!/bin/busybox sh
# What only makes sense on Quire: its whole tree, and its accounts. A case succeeds if it ends with status 0.

_fail() { echo "$*"; exit 1; }

# Pages that are charged to the posix-server's account, with all that it does for processes. What has just ended may
# still be on its way out: the least of several looks counts.
_pages_used() {
	least=
	for look in 1 2 3 4 5; do
		used=$(sed -n 's/^pages_used //p' /proc/quire/account) || _fail "no account"
		[ -n "$used" ] || _fail "the account does not tell its pages"
		[ -z "$least" ] || [ "$used" -lt "$least" ] && least=$used
		sleep 0.05
	done
	echo "$least"
}

every_file_of_the_tree_has_a_checksum() {
	# Below /proc are files of processes that are gone when it is their turn: some errors are right.
	find / -type f 2> /dev/null | xargs md5sum > sums 2> /dev/null
	[ "$(wc -l < sums)" -gt 100 ] || _fail "only $(wc -l < sums) files"
}

_lasting_files() { find / \( -path /proc -o -path /sys -o -path /tmp \) -prune -o -type f -print | sort; }

checksums_stay_the_same() {
	_lasting_files | xargs md5sum > once || _fail "md5sum failed"
	_lasting_files | xargs md5sum > twice || _fail "md5sum failed"
	cmp once twice || _fail "the checksums differ"
	[ "$(wc -l < once)" -gt 20 ] || _fail "only $(wc -l < once) files"
}

the_whole_tree_survives_tar_and_gzip() {
	mkdir out
	tar c -C / bin etc posix | gzip | gunzip | tar x -C out || _fail "tar failed"
	for directory in bin etc posix; do diff -r /$directory out/$directory || _fail "$directory differs"; done
}

a_full_root_leaves_memory_to_programs() {
	# Nothing can be said while it is full: where this script's output goes is full, too.
	errors=$(dd if=/dev/zero of=/tmp/all bs=1M count=100000 2>&1)
	used=$(df -k / | sed -n 's/.* \([0-9]*\)% .*/\1/p')
	commands=$(ls /bin | wc -l)
	# A program that takes 32 MiB.
	taken=$(dd if=/dev/zero bs=32M count=1 2> /dev/null | wc -c)
	rm /tmp/all
	case $errors in *"No space left"*) ;; *) _fail "$errors" ;; esac
	[ "$used" -ge 99 ] || _fail "full at $used %"
	[ "$commands" -gt 10 ] || _fail "ls found $commands"
	[ "$taken" = 33554432 ] || _fail "$taken bytes"
}

_start_idle() {
	count=0
	while [ $count -lt 50 ]; do busybox sleep 10000 & count=$((count + 1)); done
	# All have started when all of them sleep.
	until [ "$(ps -o stat,comm | grep -c '^S.* busybox$\|^S.* sleep$')" -ge 50 ]; do sleep 0.2; done
}

_end_idle() {
	kill $(jobs -p); wait 2> /dev/null
}

# What the kernel's pools and the server's heap hold back goes up and down by a dozen pages with the order in which things
# end; something that is lost in every process costs at least a page for each.
SLACK=24

fifty_idle_busyboxes_share_their_text() {
	# Twice before, so that what this shell and the server need for so many processes is there.
	_start_idle; _end_idle
	_start_idle; _end_idle
	before=$(_pages_used)
	_start_idle
	during=$(_pages_used)
	_end_idle
	_start_idle; _end_idle
	_start_idle; _end_idle
	after=$(_pages_used)
	each=$(((during - before) * 4 / 50))
	echo "each takes $each KiB; $before pages before, $during during, $after after"
	[ $each -le 160 ] || _fail "more than 160 KiB"
	[ $((after - before)) -le $SLACK ] || _fail "$((after - before)) pages are not given back"
}

_pipeline() { seq 1 10000 | sort | uniq | gzip | gunzip | md5sum > /dev/null; }

processes_give_back_their_pages() {
	_pipeline; _pipeline
	before=$(_pages_used)
	for round in 1 2 3 4 5 6 7 8 9 10; do _pipeline; done
	after=$(_pages_used)
	[ $((after - before)) -le $SLACK ] || _fail "$((after - before)) pages are not given back"
}

files_give_back_their_pages() {
	before=$(_pages_used)
	for round in 1 2 3 4 5 6; do
		dd if=/dev/zero of=file bs=1M count=32 2> /dev/null
		during=$(_pages_used)
		rm file
	done
	after=$(_pages_used)
	# What ended just before the first count may give its last pages back after it.
	[ $((during - before)) -ge 8188 ] || _fail "32 MiB take only $((during - before)) pages"
	[ $((after - before)) -le $SLACK ] || _fail "$((after - before)) pages are not given back"
}

ps_lists_the_shell() {
	ps | grep -q '[p]s' || _fail "ps does not list itself"
	cat /proc/self/maps | grep -q stack || _fail "maps has no stack"
}

case $1 in
--list) sed -n 's/^\([a-z][a-z_]*\)() {$/\1/p' "$0" ;;
*) "$1" ;;
esac
