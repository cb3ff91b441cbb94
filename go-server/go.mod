module lab/go-server

go 1.26.0
