package sqlguard

import (
	"errors"
	"fmt"
	"sync"

	pg "github.com/pganalyze/pg_query_go/v6"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/reflect/protoreflect"
)

var errWire = errors.New("the parser's answer is malformed")

// wireType is a message type of the parse tree. With it, a tree is walked in the
// encoded form in which the parser hands it over: to build it as Go structs
// first costs several times as much.
type wireType struct {
	name   string
	fields []wireField // by number
}

// wireField is a field of a type, and in a wireReader one that was read.
type wireField struct {
	name  string    // "" when the type has no such field
	holds *wireType // nil for a field that holds no message
	bytes []byte
	value uint64
}

// parseResult is the type of a whole tree. It is made from the parser's own
// descriptors, so that no field that can hold a node is forgotten.
var parseResult = sync.OnceValue(func() *wireType {
	types := make(map[protoreflect.FullName]*wireType)
	var of func(protoreflect.MessageDescriptor) *wireType
	of = func(d protoreflect.MessageDescriptor) *wireType {
		if t := types[d.FullName()]; t != nil {
			return t
		}
		t := &wireType{name: string(d.Name())}
		types[d.FullName()] = t
		for i := range d.Fields().Len() {
			f := d.Fields().Get(i)
			for len(t.fields) <= int(f.Number()) {
				t.fields = append(t.fields, wireField{})
			}
			t.fields[f.Number()].name = string(f.Name())
			if f.Message() != nil {
				t.fields[f.Number()].holds = of(f.Message())
			}
		}
		return t
	}
	return of((&pg.ParseResult{}).ProtoReflect().Descriptor())
})

// wireReader reads the fields of one encoded message.
type wireReader struct {
	of   *wireType
	rest []byte
}

// next returns the next field and false at the end. A field that the type does
// not have is an error: nobody knows what is in it.
func (r *wireReader) next() (wireField, bool, error) {
	if len(r.rest) == 0 {
		return wireField{}, false, nil
	}
	number, kind, n := protowire.ConsumeTag(r.rest)
	if n < 0 || int(number) >= len(r.of.fields) || r.of.fields[number].name == "" {
		return wireField{}, false, fmt.Errorf("%w: field %d of %s", errWire, number, r.of.name)
	}
	f := r.of.fields[number]
	r.rest = r.rest[n:]
	switch kind {
	case protowire.BytesType:
		f.bytes, n = protowire.ConsumeBytes(r.rest)
	case protowire.VarintType:
		f.value, n = protowire.ConsumeVarint(r.rest)
	default:
		n = protowire.ConsumeFieldValue(number, kind, r.rest)
	}
	if n < 0 || f.holds != nil && kind != protowire.BytesType {
		return wireField{}, false, fmt.Errorf("%w: field %s of %s", errWire, f.name, r.of.name)
	}
	r.rest = r.rest[n:]
	return f, true, nil
}

// wireStatements lists the statements of an encoded tree, each as the one field
// of its node that is set; the zero wireField stands for an empty statement.
func wireStatements(tree []byte) ([]wireField, error) {
	var list []wireField
	result := wireReader{parseResult(), tree}
	for {
		stmt, more, err := result.next()
		if err != nil || !more {
			return list, err
		}
		if stmt.name != "stmts" {
			continue
		}
		var is wireField
		raw := wireReader{stmt.holds, stmt.bytes}
		for more {
			var f wireField
			if f, more, err = raw.next(); err != nil {
				return nil, err
			}
			if f.name != "stmt" {
				continue
			}
			node := wireReader{f.holds, f.bytes}
			if is, _, err = node.next(); err != nil || len(node.rest) > 0 {
				return nil, errors.Join(errWire, err)
			}
		}
		list = append(list, is)
	}
}

// relations calls visit with each RangeVar in an encoded message, of which only
// the names and the location are set. It stops at the first error.
func (f wireField) relations(visit func(*pg.RangeVar) error) error {
	if f.holds == nil {
		return nil
	}
	var relation *pg.RangeVar
	if f.holds.name == "RangeVar" {
		relation = &pg.RangeVar{}
	}
	r := wireReader{f.holds, f.bytes}
	for {
		in, more, err := r.next()
		switch {
		case err != nil:
			return err
		case !more && relation != nil:
			return visit(relation)
		case !more:
			return nil
		case in.holds != nil:
			if err := in.relations(visit); err != nil {
				return err
			}
		case relation == nil:
		case in.name == "catalogname":
			relation.Catalogname = string(in.bytes)
		case in.name == "schemaname":
			relation.Schemaname = string(in.bytes)
		case in.name == "relname":
			relation.Relname = string(in.bytes)
		case in.name == "location":
			relation.Location = int32(in.value)
		}
	}
}
