package e2e

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tidemill/tidemill/e2e/harness"
)

const (
	customers = "customers" // has a primary key
	visits    = "visits"    // has none: its records have a null key, its changes the whole row before

	// Debezium's letters.
	snapshotted, created, updated, deleted = "r", "c", "u", "d"
)

// A shopRow is a row of either table. Rev counts its revisions from 1.
type shopRow struct {
	ID, Rev int
	Note    *string
}

// newRow makes a revision of a row: what it holds follows from its numbers.
func newRow(id, rev int) shopRow {
	row := shopRow{ID: id, Rev: rev}
	if rev%4 != 3 {
		note := fmt.Sprintf("row %d, revision %d: \"na\u00efve\" 'quotes' and \\ \u2603", id, rev)
		row.Note = &note
	}
	return row
}

// sql is the row's note as a literal.
func (r shopRow) sql() string {
	if r.Note == nil {
		return "NULL"
	}
	return "$note$" + *r.Note + "$note$"
}

// A change is one change of one row, unlike any other: the revisions are those of the row after and before it, 0 where
// PostgreSQL does not tell them.
type change struct {
	table, op       string
	id, rev, before int
}

// key is the key of the change's record in a table that has one.
func (c change) key() string { return fmt.Sprintf(`{"id":%d}`, c.id) }

// A shop changes the rows of its database and remembers what it did.
type shop struct {
	t       *testing.T
	db      *harness.Postgres
	random  *rand.Rand
	changes []change
	rows    map[string][]shopRow // of each table, the rows it has
	lastID  int                  // no id is used twice
}

func newShop(t *testing.T, db *harness.Postgres) *shop {
	t.Helper()
	db.Exec(`CREATE TABLE customers (id int PRIMARY KEY, rev int NOT NULL, note text);
		CREATE TABLE visits (id int NOT NULL, rev int NOT NULL, note text);
		ALTER TABLE visits REPLICA IDENTITY FULL;`)
	return &shop{t: t, db: db, random: rand.New(rand.NewPCG(1, 2)), rows: map[string][]shopRow{}}
}

// fill adds n rows to each table, for the snapshot.
func (s *shop) fill(n int) {
	s.t.Helper()
	var sql strings.Builder
	for range n {
		for _, table := range []string{customers, visits} {
			sql.WriteString(s.insert(table, snapshotted))
		}
	}
	s.db.Exec("BEGIN; " + sql.String() + "COMMIT;")
}

// work makes n changes, ten in a transaction.
func (s *shop) work(n int) {
	s.t.Helper()
	var sql strings.Builder
	for i := range n {
		if i%10 == 0 {
			sql.WriteString("BEGIN;\n")
		}
		sql.WriteString(s.change([]string{customers, visits}[s.random.IntN(2)]))
		if i%10 == 9 || i == n-1 {
			sql.WriteString("COMMIT;\n")
		}
	}
	s.db.Exec(sql.String())
}

// change returns the statement of a random change: five in ten insert, three update, two delete.
func (s *shop) change(table string) string {
	rows := s.rows[table]
	kind, at := s.random.IntN(10), s.random.IntN(len(rows))
	if kind < 5 {
		return s.insert(table, created)
	}
	c := change{table: table, id: rows[at].ID}
	if table == visits {
		c.before = rows[at].Rev
	}
	if kind < 8 {
		row := newRow(rows[at].ID, rows[at].Rev+1)
		rows[at] = row
		c.op, c.rev = updated, row.Rev
		s.changes = append(s.changes, c)
		return fmt.Sprintf("UPDATE %s SET rev = %d, note = %s WHERE id = %d;\n", table, row.Rev, row.sql(), row.ID)
	}
	s.rows[table] = append(rows[:at], rows[at+1:]...)
	c.op = deleted
	s.changes = append(s.changes, c)
	return fmt.Sprintf("DELETE FROM %s WHERE id = %d;\n", table, c.id)
}

func (s *shop) insert(table, op string) string {
	s.lastID++
	row := newRow(s.lastID, 1)
	s.rows[table] = append(s.rows[table], row)
	s.changes = append(s.changes, change{table: table, op: op, id: row.ID, rev: row.Rev})
	return fmt.Sprintf("INSERT INTO %s VALUES (%d, %d, %s);\n", table, row.ID, row.Rev, row.sql())
}

// table reads a table's rows.
func (s *shop) table(name string) map[int]shopRow {
	s.t.Helper()
	var rows []shopRow
	if err := json.Unmarshal([]byte(s.db.Exec("SELECT json_agg(t) FROM "+name+" t")), &rows); err != nil {
		s.t.Fatal(err)
	}
	byID := map[int]shopRow{}
	for _, row := range rows {
		byID[row.ID] = row
	}
	return byID
}

// An envelope is what the value of one of Debezium's records says about one change.
type envelope struct {
	Before, After *shopRow
	Op            string
	Source        struct{ Table string }
}

// change is the envelope in the shop's terms.
func (e *envelope) change() (change, error) {
	c := change{table: e.Source.Table, op: e.Op}
	if e.Before != nil {
		c.id, c.before = e.Before.ID, e.Before.Rev
	}
	if e.After != nil {
		c.id, c.rev = e.After.ID, e.After.Rev
		if diff := cmp.Diff(newRow(c.id, c.rev), *e.After); diff != "" {
			return c, fmt.Errorf("row of %+v: %s", c, diff)
		}
	}
	if (e.After == nil) != (e.Op == deleted) {
		return c, fmt.Errorf("%+v and the row after it: %+v", c, e.After)
	}
	return c, nil
}

// A tally counts how often each change came, and how many tombstones.
type tally struct {
	changes    map[change]int
	tombstones int
}

func newTally() tally { return tally{changes: map[change]int{}} }

// missing names the changes that did not come.
func (y tally) missing(changes []change) error {
	n, first := 0, change{}
	for _, c := range changes {
		if y.changes[c] == 0 {
			if n == 0 {
				first = c
			}
			n++
		}
	}
	if n > 0 {
		return fmt.Errorf("%d of %d changes are missing, the first is %+v", n, len(changes), first)
	}
	if want := tombstones(changes); y.tombstones < want {
		return fmt.Errorf("%d of %d tombstones have come", y.tombstones, want)
	}
	return nil
}

// tombstones is how many of the changes leave one: Debezium writes them for rows without a key too.
func tombstones(changes []change) (n int) {
	for _, c := range changes {
		if c.op == deleted {
			n++
		}
	}
	return n
}

// checkOnce checks that these changes came once each, and nothing else.
func (y tally) checkOnce(t *testing.T, where string, changes []change) {
	t.Helper()
	report := limited(t)
	for _, c := range changes {
		if n := y.changes[c]; n != 1 {
			report("%s: %+v came %d times", where, c, n)
		}
	}
	if want := tombstones(changes); y.tombstones != want {
		report("%s: %d tombstones, want %d", where, y.tombstones, want)
	}
	y.checkKnown(t, where, changes)
}

// checkKnown checks that no other change than these came.
func (y tally) checkKnown(t *testing.T, where string, changes []change) {
	t.Helper()
	known := map[change]bool{}
	for _, c := range changes {
		known[c] = true
	}
	report := limited(t)
	again := 0
	for c, n := range y.changes {
		again += n - 1
		if !known[c] {
			report("%s: %+v never happened", where, c)
		}
	}
	t.Logf("%s: %d changes, %d of them came again", where, len(changes), again)
}
