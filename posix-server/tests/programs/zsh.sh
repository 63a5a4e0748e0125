# zsh: arrays, globbing with qualifiers, pipelines, jobs, here-strings.
set -e
cat > script <<'SCRIPT'
setopt extended_glob null_glob
touch b.txt a.txt c.md
mkdir dir
files=(*.txt(.))
[[ $#files == 2 && $files[1] == a.txt ]] || exit 1
[[ $(print -l *(/)) == dir ]] || exit 2
typeset -A map=(one 1 two 2)
[[ $(( map[one] + map[two] )) == 3 ]] || exit 3
sum=$(print -l {1..100} | while read n; do (( total += n )); print $total; done | tail -n 1)
[[ $sum == 5050 ]] || exit 4
(sleep 0.1; print done > finished) &
wait
[[ $(<finished) == done ]] || exit 5
cat <<< "here ${(U):-string}" > here
[[ $(<here) == "here STRING" ]] || exit 6
trap 'print caught > trapped' USR1
kill -USR1 $$
[[ $(<trapped) == caught ]] || exit 7
print ok
SCRIPT
zsh=$(ls /bin/zsh*-static /usr/bin/zsh*-static 2>/dev/null | head -n 1)
[ "$($zsh -f script)" = ok ]
