# Says which release answers. /slow takes a moment: a swap lets it finish.
release = ENV.fetch("SUPD_RELEASE")

run lambda { |env|
  sleep 0.1 if env["PATH_INFO"] == "/slow"
  body = "hello from release #{release}\n"
  headers = {
    "content-type" => "text/plain",
    "content-length" => body.bytesize.to_s,
    "x-served-by" => "#{release}/#{Process.pid}",
  }
  [200, headers, [body]]
}
