# SPDX-License-Identifier: BSD-3-Clause
# matrix.awk - CONFORMANCE.md from the answers: DIR/NAME/rows (matrix.sh) of the configurations in the first file, and
# why some of them differ in the second. What nobody explains goes to standard error, and makes the status 1.

# "a*,b" as a regular expression.
function glob(s)
{
	gsub(/[.+()\[\]]/, "\\\\&", s)
	gsub(/\*/, ".*", s)
	gsub(/,/, "|", s)
	return "^(" s ")$"
}

# The number of the sentence that explains @id in column @name, or "".
function why(id, name,    i)
{
	for (i = 1; i <= ndiff; i++)
		if (id ~ dcase[i] && name ~ dconf[i]) {
			if (!(i in number)) {
				number[i] = ++nused
				used[nused] = i
			}
			return number[i]
		}
	return ""
}

function complain(s)
{
	print s > "/dev/stderr"
	bad = 1
}

function esc(s)
{
	gsub(/\|/, "\\|", s)
	gsub(/\*/, "\\*", s)
	return s
}

# What stands in the table for case @id in column @c.
function cell(id, c,    r, a, n)
{
	r = result[id, c]
	a = answer[id, c]
	if (r == "broken") {
		complain(title[c] ": " id " is broken: " reason[id, c])
		return "broken"
	}
	if (r == "" || r == "n/a")
		return c == base && r != "" ? "–" : c == base ? "" : "–"
	n = ""
	if (r == "differs") {
		n = why(id, title[c])
		if (n == "")
			complain(title[c] ": " id ": " a ", expected " expected[id, c] " " reason[id, c])
	} else if (kernel[c] && dax[c] && result[id, base] == "pass" && a != answer[id, base]) {
		n = why(id, title[c])
		if (n == "")
			complain(title[c] ": " id ": " a ", and pinfs says " answer[id, base])
	}
	if (c != base && a == answer[id, base] && result[id, base] != "n/a")
		a = "·"
	else
		a = esc(a)
	return a (n != "" ? " [" n "]" : "")
}

FNR == 1 { file++ }
/^#/ || NF < 3 { next }

file == 1 {
	f = dir "/" $1 "/rows"
	if ((getline line < f) <= 0) {
		if ($2 == "kernel")
			absent = absent (absent != "" ? ", " : "") $1
		next
	}
	title[++ncol] = $1
	how[ncol] = $2
	user[ncol] = $3
	opts[ncol] = $4
	about[ncol] = $5
	kernel[ncol] = $2 == "kernel"
	dax[ncol] = $4 ~ /always/
	if ($1 == "wait")
		base = ncol
	do {
		split(line, v, "\t")
		id = v[1]
		if (!(id in known) && !kernel[ncol]) {
			known[id] = 1
			order[++ncase] = id
			group[id] = v[2]
			says[id] = v[7]
			source[id] = v[8]
		}
		result[id, ncol] = v[3]
		answer[id, ncol] = v[4]
		expected[id, ncol] = v[5]
		reason[id, ncol] = v[6]
	} while ((getline line < f) > 0)
	close(f)
	next
}

file == 2 {
	dcase[++ndiff] = glob($1)
	dconf[ndiff] = glob($2)
	dtext[ndiff] = $3
}

END {
	if (base == "") {
		for (c = 1; c <= ncol; c++)
			for (i = 1; i <= ncase; i++)
				(void) cell(order[i], c)
		exit bad
	}
	print "# What pinfs answers, and what Linux answers"
	print ""
	print "`make conform` asks the questions of `pinfs-conform` ([how a case is made](README.md)) in each of these configurations, and writes"
	print "this file; nothing in it is written by hand but the [reasons](conform/differences.tsv)."
	print ""
	print "| column | what is asked | mount options | as | as in `wait` | otherwise | not asked |"
	print "|---|---|---|---|---|---|---|"
	for (c = 1; c <= ncol; c++) {
		same = other = none = 0
		for (i = 1; i <= ncase; i++) {
			r = result[order[i], c]
			if (r == "" || r == "n/a")
				none++
			else if (answer[order[i], c] == answer[order[i], base])
				same++
			else
				other++
		}
		printf "| %s | %s | %s | %s | %d | %d | %d |\n", title[c], about[c],
			kernel[c] || opts[c] == "-" ? "" : "`" opts[c] "`", kernel[c] ? "" : user[c], same, other, none
	}
	print ""
	if (absent != "") {
		print "Not recorded yet, and so not here: " absent "."
		print ""
	}
	print "The column `wait` has the answer; in the others, `·` is the same one, `–` says that it cannot be asked there or makes no sense. A"
	print "number says that an answer is not the one that was expected there, or that `wait` and a Linux with DAX answer differently: [why](#why)."
	last = ""
	for (i = 1; i <= ncase; i++) {
		id = order[i]
		if (group[id] != last) {
			if (last != "")
				describe(last)
			last = group[id]
			print ""
			print "## " last
			print ""
			s = "| case |"
			t = "|---|"
			for (c = 1; c <= ncol; c++) {
				s = s " " title[c] " |"
				t = t "---|"
			}
			print s
			print t
		}
		s = "| " substr(id, length(last) + 2) " |"
		for (c = 1; c <= ncol; c++)
			s = s " " cell(id, c) " |"
		print s
	}
	describe(last)
	print ""
	print "## Why"
	print ""
	for (i = 1; i <= nused; i++)
		print i ". " dtext[used[i]]
	exit bad
}

function describe(g,    i, id)
{
	print ""
	for (i = 1; i <= ncase; i++) {
		id = order[i]
		if (group[id] == g)
			print "- **" substr(id, length(g) + 2) "** " esc(says[id]) " *(" esc(source[id]) ")*"
	}
}
