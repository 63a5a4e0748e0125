#!/bin/busybox sh
# Much data: through pipes, files, archives and compression.

_stream() { yes 'the same on both systems' | head -c "$1"; }

# So many times the mebibyte in the file `piece`.
_pieces() {
	count=0
	while [ $count -lt "$1" ]; do dd if=piece bs=1M 2> /dev/null; count=$((count + 1)); done
}

dd_of_256_mebibytes_through_a_file() {
	_stream 1048576 > piece
	_pieces 256 | md5sum
	_pieces 256 | dd of=file bs=1M iflag=fullblock 2> /dev/null
	stat -c '%s' file
	dd if=file bs=1M 2> /dev/null | md5sum
	rm file
}

dd_counts_its_blocks() {
	_stream 10000 > file
	dd if=file of=copy bs=4096 2>&1 | head -n 2
	dd if=file of=part bs=1000 skip=2 count=3 2>&1 | head -n 2; md5sum < part
	dd if=part of=file bs=1000 seek=5 conv=notrunc 2> /dev/null; md5sum < file
	dd if=/dev/zero of=sparse bs=1 count=1 seek=1000000 2> /dev/null; stat -c '%s' sparse; md5sum < sparse
}

_make_tree() {
	mkdir -p tree/a/b tree/empty
	for number in $(seq 1 60); do _stream $((number * number * 37)) > tree/a/file$number; done
	cp /bin/busybox tree/a/b/program; chmod 750 tree/a/b/program; chmod 1777 tree/empty
	ln -s a/b/program tree/link; ln tree/a/file7 tree/a/b/hard; TZ=UTC touch -d '2001-02-03 04:05:06' tree/a/file1
}

_describe() { (cd "$1" && find . | sort | xargs stat -c '%n %A %h' && find . -type f | sort | xargs md5sum | md5sum); }

tar_and_gzip_and_back() {
	_make_tree
	mkdir out
	tar c tree | gzip | gunzip | tar xp -C out
	_describe tree > before; _describe out/tree > after
	cmp before after && echo "the trees are equal"
	TZ=UTC stat -c '%y' out/tree/a/file1 | cut -c1-19
	find out -type f | wc -l
	tar c tree | tar t | sort | md5sum
}

compression_round_trips() {
	_stream 3000000 > file
	for method in gzip bzip2; do
		$method -c file > packed; $method -dc packed | cmp - file && echo "$method is faithful"
	done
	seq 1 50000 | gzip | wc -c
	gunzip < /dev/zero > /dev/null 2>&1 || echo "zeroes are no archive"
}

copies_by_every_way_are_equal() {
	_stream 2000000 > file
	cp file one; cat file > two; dd if=file of=three bs=777 2> /dev/null; cat < file | cat > four
	md5sum file one two three four
}

a_file_grows_while_it_is_read() {
	(for number in 1 2 3 4 5; do echo "line $number"; sleep 0.05; done > growing; echo end > done) &
	until [ -e done ]; do sleep 0.05; done
	wait
	cat growing
}

sorting_a_large_file() {
	seq 1 30000 | sed 's/\(.\)\(.*\)/\2\1/' > numbers
	sort -n numbers | md5sum
	sort numbers | uniq | wc -l
}

case $1 in
--list) sed -n 's/^\([a-z][a-z_0-9]*\)() {$/\1/p' "$0" ;;
*) "$1" ;;
esac
