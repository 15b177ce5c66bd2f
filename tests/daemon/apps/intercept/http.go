// As the documentation of net/http has it.
package main

import (
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
)

func main() {
	served := fmt.Sprintf("%s/%d", os.Getenv("SUPD_RELEASE"), os.Getpid())
	http.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Served-By", served)
		io.WriteString(w, "hello\n")
	})
	log.Fatal(http.ListenAndServe(":@PORT@", nil))
}
