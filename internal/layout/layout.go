// Package layout holds no code: its test keeps the shape of the repository, that is which package may import which, one
// comment per package, and the length of files and functions.
package layout
