#!/bin/bash
# The same for bash, which asks other things of the system than busybox does.

arrays_and_arithmetic() {
	local -a list=(one 'two three' four); local -A map=([key]=value [other]=thing)
	echo "${#list[@]} ${list[1]} ${list[@]:1:2} ${map[key]}"
	for ((number = 0; number < 3; number++)); do printf '%d ' $((number ** 3)); done; echo
	[[ abc123 =~ ^([a-z]+)([0-9]+)$ ]] && echo "${BASH_REMATCH[2]}"
}

pipelines_and_their_statuses() {
	seq 1 100 | grep 3 | wc -l
	false | true | (exit 3); echo "${PIPESTATUS[@]}"
	set -o pipefail; false | true; echo "status $?"
	printf 'c\na\nb\n' | sort | { read -r first; echo "$first"; cat; }
}

here_strings_and_documents() {
	cat <<< "a here string"
	read -r one two <<< "1 2"; echo "$two $one"
	wc -l < <(seq 1 10)
	diff <(seq 1 5) <(seq 1 5) && echo equal
	cat <<END | tr a-z A-Z
document
END
	cat <<< "$(head -c 100000 /dev/zero | tr '\0' x)" | wc -c
}

jobs_and_signals() {
	sleep 100 & kill %1; wait %1 2> /dev/null; echo "status $?"
	for number in 1 2 3; do (exit $number) & pids[number]=$!; done
	for number in 3 1 2; do wait "${pids[number]}"; echo "status $?"; done
	trap 'echo trapped' USR1; kill -USR1 $BASHPID; trap - USR1
	(kill -TERM $BASHPID; echo never); echo "status $?"
	(trap 'echo leaving' EXIT; exit 4); echo "status $?"
	coproc { read -r line; echo "heard $line"; }; echo hello >&"${COPROC[1]}"; read -r answer <&"${COPROC[0]}"; echo "$answer"
}

reading_with_a_time_limit() {
	read -r -t 0.1 line < <(sleep 5); echo "status $(($? > 128))"
	read -r -t 5 line < <(echo quick); echo "$line"
}

loops_that_start_processes() {
	sum=0
	for number in $(seq 1 200); do sum=$((sum + $(echo "$number"))); done
	echo $sum
}

descriptors() {
	exec {fd}> file; echo text >&"$fd"; exec {fd}>&-; cat file
	exec 3<> both; echo line >&3; exec 3>&-; cat both
	{ echo one; echo two >&2; } 2>&1 | sort
}

case $1 in
--list) while read -r line; do [[ $line =~ ^([a-z][a-z_]*)\(\)\ \{$ ]] && echo "${BASH_REMATCH[1]}"; done < "$0"; true ;;
*) "$1" ;;
esac
