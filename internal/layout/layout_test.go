package layout

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/tidemill/tidemill/"

// floors orders the top-level folders: a package imports only from lower floors, or from its own folder.
// A longer path wins over a shorter one.
var floors = map[string]int{
	"internal": 0, "protocol": 0, "objectstore": 0, "kafkaconfig": 0,
	"wal": 1, "server": 1, "config": 1, "conformance": 1, "verify": 1,
	"metadata":    2,
	"partition":   3,
	"coordinator": 3, "coordinator/group": 4,
	"controller": 3,
	"audit":      4,
	"sim":        4,
	"broker":     5,
	"cmd/broker": 6,
}

// Hard limits. The habit is 400 lines a file and 60 a function; what is longer should be two things.
const (
	fileLinesMax = 500
	testLinesMax = 800
	funcLinesMax = 80
)

type file struct {
	path string // relative to the root, with slashes
	ast  *ast.File
	fset *token.FileSet
}

func TestImportsPointDown(t *testing.T) {
	for _, f := range goFiles(t) {
		if strings.HasSuffix(f.path, "_test.go") {
			continue
		}
		dir := filepath.ToSlash(filepath.Dir(f.path))
		from, folder := floorOf(dir)
		if folder == "" {
			t.Errorf("%s: folder %s has no floor", f.path, dir)
			continue
		}
		for _, imp := range f.ast.Imports {
			path, err := strconv.Unquote(imp.Path.Value)
			if err != nil || !strings.HasPrefix(path, module) {
				continue
			}
			to, target := floorOf(strings.TrimPrefix(path, module))
			if target != folder && to >= from {
				t.Errorf("%s imports %s: floor %d may not look at floor %d", f.path, path, from, to)
			}
		}
	}
}

func TestOneCommentPerPackage(t *testing.T) {
	docs := map[string][]string{}
	for _, f := range goFiles(t) {
		dir := filepath.ToSlash(filepath.Dir(f.path))
		if strings.HasSuffix(f.path, "_test.go") {
			continue
		}
		docs[dir] = append(docs[dir], "")
		if f.ast.Doc != nil {
			docs[dir][len(docs[dir])-1] = f.path
		}
	}
	for dir, files := range docs {
		n := 0
		for _, f := range files {
			if f != "" {
				n++
			}
		}
		if n != 1 {
			t.Errorf("package in %s has %d package comments, want 1", dir, n)
		}
	}
}

func TestLengths(t *testing.T) {
	for _, f := range goFiles(t) {
		limit := fileLinesMax
		if strings.HasSuffix(f.path, "_test.go") {
			limit = testLinesMax
		}
		if n := f.fset.Position(f.ast.FileEnd).Line; n > limit {
			t.Errorf("%s has %d lines, want at most %d", f.path, n, limit)
		}
		if strings.HasSuffix(f.path, "_test.go") {
			continue
		}
		for _, d := range f.ast.Decls {
			fn, ok := d.(*ast.FuncDecl)
			if !ok {
				continue
			}
			if n := f.fset.Position(fn.End()).Line - f.fset.Position(fn.Pos()).Line + 1; n > funcLinesMax {
				t.Errorf("%s: %s has %d lines, want at most %d", f.path, fn.Name.Name, n, funcLinesMax)
			}
		}
	}
}

// floorOf returns the floor of a folder and the entry of floors that decided it, "" when none does.
func floorOf(dir string) (int, string) {
	for d := dir; d != "." && d != ""; d = filepath.ToSlash(filepath.Dir(d)) {
		if n, ok := floors[d]; ok {
			return n, d
		}
	}
	return 0, ""
}

// goFiles parses every Go file of the main module.
func goFiles(t *testing.T) []file {
	t.Helper()
	root := filepath.Join("..", "..")
	var out []file
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			return skipFolder(root, path, d.Name())
		}
		if !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_gen.go") {
			return nil
		}
		fset := token.NewFileSet()
		parsed, err := parser.ParseFile(fset, path, nil, parser.ParseComments)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, path)
		out = append(out, file{path: filepath.ToSlash(rel), ast: parsed, fset: fset})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(out) < 20 {
		t.Fatalf("found %d Go files under %s, want the repository", len(out), root)
	}
	return out
}

// skipFolder leaves out hidden folders, built things and modules of their own.
func skipFolder(root, path, name string) error {
	if path == root {
		return nil
	}
	if strings.HasPrefix(name, ".") || name == "bin" || name == "testdata" || name == "broker-data" {
		return filepath.SkipDir
	}
	if _, err := os.Stat(filepath.Join(path, "go.mod")); err == nil {
		return filepath.SkipDir
	}
	return nil
}
