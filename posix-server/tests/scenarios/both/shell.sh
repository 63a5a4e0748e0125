#!/bin/busybox sh
# What people do with a shell. Each function is a case; the names of helpers begin with an underscore.

pipelines() {
	printf 'pear\napple\nfig\napple\n' | sort | uniq -c | sed 's/^ *//'
	seq 1 1000 | grep 7 | wc -l
	seq 1 100000 | tail -n 1
	echo one two three | tr ' ' '\n' | while read -r word; do echo "<$word>"; done
	yes | head -n 3
	false | true; echo "status $?"
	true | false; echo "status $?"
	seq 5 | awk '{ sum += $1 } END { print sum }'
	cat /dev/null | wc -c
}

a_long_pipeline() {
	seq 1 5000 | cat | cat | cat | cat | cat | cat | cat | cat | cat | cat | md5sum
}

background_jobs() {
	sleep 0 &
	wait $!; echo "waited: $?"
	(exit 7) & wait $!; echo "status $?"
	for number in 1 2 3; do (sleep 0.$number; echo "job $number" >> order) & done
	wait
	sort order
	# Whether the shell says how a job ended depends on when it learns of it.
	{
		sleep 100 & job=$!
		kill $job; wait $job; echo "killed: $?"
		sleep 100 & kill -9 $!; wait $!; echo "killed: $?"
	} 2> /dev/null
}

stopped_jobs() {
	sleep 100 & job=$!
	kill -STOP $job; kill -CONT $job
	kill -0 $job && echo "alive"
	kill $job; wait $job 2> /dev/null; echo "status $?"
	kill -0 $job 2>/dev/null || echo "gone"
}

here_documents() {
	name=reader
	cat <<-END
		dear $name,
		1 + 1 = $((1 + 1))
	END
	cat <<'END'
no $name here
END
	wc -c <<END
$(seq 1 500)
END
	tr a-z A-Z <<END | rev
shout
END
}

redirections() {
	echo first > file; echo second >> file; cat file
	ls nothing-there 2> errors; echo "status $?"; wc -l < errors
	{ echo out; echo err >&2; } > all 2>&1; sort all
	exec 5> kept; echo through five >&5; exec 5>&-; cat kept
	exec 6< file; read -r line <&6; echo "$line"; read -r line <&6; echo "$line"; exec 6<&-
	: > file; wc -c < file
	(set -C; echo x > file) 2>/dev/null || echo "not overwritten"
	echo gone > /dev/null
	{ cat < nothing-there; } 2>/dev/null || echo "cannot read"
}

expansion_and_patterns() {
	touch a1 a2 b1 .hidden; mkdir d; touch d/c
	echo *; echo a*; echo [ab]1; echo */c; echo nothing*
	value=some.tar.gz
	echo "${value%.gz} ${value%%.*} ${value#*.} ${#value} ${missing:-default}"
	set -- x 'y z' ''; echo $#; for word in "$@"; do echo "<$word>"; done
	echo $((7 / 2)) $((7 % 3)) $((1 << 40)) $((-5 * 3))
	echo "$(echo inner "$(echo innermost)")"
	case abc in a*c) echo matches;; *) echo differs;; esac
}

functions_and_traps() {
	_add() { echo $(($1 + $2)); return 3; }
	_add 4 5; echo "status $?"
	(trap 'echo bye' EXIT; echo working)
	(trap 'echo caught' TERM; kill -TERM $(exec sh -c 'echo $PPID'); echo after)
	(trap '' TERM; kill -TERM $(exec sh -c 'echo $PPID'); echo ignored)
	sh -c 'kill -TERM $$; echo never' 2> /dev/null; echo "status $?"
	sh -c 'kill -KILL $$; echo never' 2> /dev/null; echo "status $?"
	(set -e; false; echo never); echo "status $?"
	sh -c 'exit 300'; echo "status $?"
	nothing-of-this-name 2>/dev/null; echo "status $?"
	./ 2>/dev/null; echo "status $?"
}

scripts() {
	printf '#!/bin/sh\necho "script $0 has $# arguments: $*"\nexit 5\n' > script
	./script 2>/dev/null; echo "status $?"
	chmod +x script; ./script one 'two three'; echo "status $?"
	printf 'echo plain "$1"\n' > plain; chmod +x plain; ./plain text
	printf '#!/bin/nothing\n' > bad; chmod +x bad; ./bad 2>/dev/null; echo "status $?"
	printf '#!./script with argument\n' > nested; chmod +x nested; ./nested x; echo "status $?"
	sh -s from input <<'END'
echo "$1 $2"
END
	. ./plain sourced
}

files_and_directories() {
	mkdir -p a/b/c; echo text > a/b/c/file; cp -r a copy; diff -r a copy && echo equal
	mv copy moved; rm -r a; find moved | sort
	ln -s moved/b link; cat link/c/file; readlink link; ln moved/b/c/file hard; stat -c '%h %s %a' hard
	chmod 640 hard; stat -c '%A' moved/b/c/file; umask 077; touch private; stat -c '%a' private
	TZ=UTC touch -d '2001-02-03 04:05:06' old; TZ=UTC stat -c '%y' old | cut -c1-19
	[ old -ot private ] && echo older; [ -d moved ] && [ ! -e gone ] && [ -L link ] && echo tests hold
	du -a moved | wc -l; rmdir moved 2>/dev/null || echo not empty; rm -rf moved; ls
}

many_files() {
	mkdir d
	for number in $(seq 1 300); do echo "$number" > d/file$number; done
	ls d | wc -l
	cat d/* | sort -n | md5sum
	find d -name '*7' | xargs cat | awk '{ sum += $1 } END { print sum }'
	find d -type f -exec rm {} +
	ls d | wc -l
}

text_tools() {
	seq 1 20 > numbers
	sed -n '5,7p;$p' numbers; head -c 10 numbers | od -c | head -n 1; cut -c1 numbers | sort -u | tr -d '\n'; echo
	paste -sd+ numbers; grep -c 1 numbers; sort -rn numbers | head -n 2; tac numbers | head -n 1
	cmp numbers numbers && echo same
	printf 'b 2\na 1\n' | sort -k2 -n; expr 6 \* 7; basename /a/b.c .c; dirname /a/b.c
	printf '%05d|%-5s|%x\n' 42 ab 255; dc -e '2 10 ^ p' 2>/dev/null || echo 1024
}

a_thousand_processes() {
	count=0
	while [ $count -lt 1000 ]; do /bin/true; count=$((count + 1)); done
	echo "$count processes"
}

command_substitution_of_much_output() {
	text=$(seq 1 20000)
	echo "${#text}"
	echo "$text" | md5sum
}

case $1 in
--list) sed -n 's/^\([a-z][a-z_]*\)() {$/\1/p' "$0" ;;
*) "$1" ;;
esac
