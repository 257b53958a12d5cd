package syncer

import (
	"encoding/json"
	"iter"
	"maps"
	"path"
	"reflect"
)

// memories is what is known of each document's path. A copy shares the folders that
// it does not change, so a round over few documents of many costs what those cost, and
// a folder that is the same map in two of them is known to be the same.
type memories struct {
	folders map[string]map[string]memory // by folder, then by the last part of the path
	own     map[string]bool              // folders that nobody shares
}

func newMemories() memories {
	return memories{folders: map[string]map[string]memory{}, own: map[string]bool{}}
}

// clone makes a copy. The original must not be changed afterwards.
func (m memories) clone() memories {
	return memories{folders: maps.Clone(m.folders), own: map[string]bool{}}
}

func (m memories) of(doc string) memory { return m.folders[path.Dir(doc)][path.Base(doc)] }

func (m memories) set(doc string, to memory) { m.change(path.Dir(doc))[path.Base(doc)] = to }

func (m memories) remove(doc string) { delete(m.change(path.Dir(doc)), path.Base(doc)) }

// change is a folder that may be changed.
func (m memories) change(folder string) map[string]memory {
	if !m.own[folder] {
		mine := maps.Clone(m.folders[folder])
		if mine == nil {
			mine = map[string]memory{}
		}
		m.folders[folder], m.own[folder] = mine, true
	}
	return m.folders[folder]
}

// all are in no order.
func (m memories) all() iter.Seq2[string, memory] {
	return func(yield func(string, memory) bool) {
		for folder, docs := range m.folders {
			for base, is := range docs {
				if !yield(path.Join(folder, base), is) {
					return
				}
			}
		}
	}
}

// since calls changed with every path that is not as it was before, which is gone
// when the memory is nil.
func (m memories) since(before memories, changed func(doc string, to *memory)) {
	for folder, docs := range m.folders {
		was := before.folders[folder]
		if oneMap(was, docs) {
			continue
		}
		for base, is := range docs {
			if last, known := was[base]; !known || !is.equal(last) {
				changed(path.Join(folder, base), &is)
			}
		}
		for base := range was {
			if _, is := docs[base]; !is {
				changed(path.Join(folder, base), nil)
			}
		}
	}
	for folder, docs := range before.folders {
		if m.folders[folder] == nil {
			for base := range docs {
				changed(path.Join(folder, base), nil)
			}
		}
	}
}

// MarshalJSON writes one object by path.
func (m memories) MarshalJSON() ([]byte, error) { return json.Marshal(maps.Collect(m.all())) }

// UnmarshalJSON reads what MarshalJSON writes.
func (m *memories) UnmarshalJSON(b []byte) error {
	var flat map[string]memory
	if err := decodeState(b, &flat); err != nil {
		return err
	}
	*m = newMemories()
	for doc, is := range flat {
		m.set(doc, is)
	}
	return nil
}

// oneMap tells whether two maps are one.
func oneMap[M ~map[string]V, V any](a, b M) bool {
	return reflect.ValueOf(a).Pointer() == reflect.ValueOf(b).Pointer()
}
