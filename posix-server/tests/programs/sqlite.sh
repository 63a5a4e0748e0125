# sqlite3's shell on a file in /tmp: transactions, an index, locking between two processes, the write-ahead log.
set -e
file=/tmp/conformance-$$.db
trap 'rm -f "$file" "$file"-*' EXIT
sqlite3 $file 'create table t (id integer primary key, name text, value real); create index by_name on t (name);'
sqlite3 $file "with recursive n(i) as (select 1 union all select i + 1 from n where i < 2000)
    insert into t (name, value) select 'name' || (i % 100), i * 0.5 from n;"
[ "$(sqlite3 $file 'select count(*), sum(value) from t where name = '\''name7'\'';')" = '20|9570.0' ]
sqlite3 $file 'begin; delete from t; rollback;'
[ "$(sqlite3 $file 'select count(*) from t;')" = 2000 ]
# One process holds the lock while another wants it.
(echo 'begin exclusive;'; sleep 1; echo 'update t set value = 1 where id = 1; commit;') | sqlite3 $file &
sleep 0.3
sqlite3 -cmd '.timeout 20000' $file 'update t set value = 2 where id = 2;'
wait
[ "$(sqlite3 $file 'select group_concat(value) from t where id < 3;')" = '1.0,2.0' ]
[ "$(sqlite3 $file 'pragma journal_mode = wal;')" = wal ]
sqlite3 $file "insert into t (name) values ('last');"
[ "$(sqlite3 $file 'pragma integrity_check;')" = ok ]
[ "$(sqlite3 $file 'select count(*) from t;')" = 2001 ]
