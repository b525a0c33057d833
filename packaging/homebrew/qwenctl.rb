# For a tap: README.md beside this file says how. Not built by Homebrew yet.
class Qwenctl < Formula
  include Language::Python::Virtualenv

  desc "Runs one local model: chooses, downloads, starts and supervises it"
  homepage "https://github.com/OWNER/qwenctl"
  license "Apache-2.0"
  head "https://github.com/OWNER/qwenctl.git", branch: "main"

  depends_on "rust" => :build
  depends_on "llama.cpp"
  depends_on "python@3.13"

  # Extensions in Rust: their wheels have no room for the longer paths that Homebrew writes into libraries
  # ("Failed changing dylib ID"), so they are compiled.
  RUST_EXTENSIONS = %w[hf-xet pydantic-core watchfiles].freeze

  def install
    return virtualenv_install_with_resources unless build.head?

    # Without a release there are no resources: pip resolves what pyproject.toml asks for.
    virtualenv_create(libexec, "python3.13")
    ENV.append "RUSTFLAGS", "-C link-arg=-Wl,-headerpad_max_install_names" if OS.mac?
    system "python3.13", "-m", "pip", "--python=#{libexec}/bin/python", "install",
           "--no-binary=#{RUST_EXTENSIONS.join(",")}", buildpath.to_s
    bin.install_symlink libexec/"bin/qwenctl"
  end

  service do
    run [opt_bin/"qwenctl", "run"]
    keep_alive successful_exit: false
    process_type :interactive
    environment_variables PATH: std_service_path_env
    log_path var/"log/qwenctl.log"
    error_log_path var/"log/qwenctl.log"
  end

  def caveats
    <<~EOS
      qwenctl up and qwenctl down use the service that brew services start qwenctl makes.
      The logs are in ~/Library/Logs/qwenctl; what is printed before a log begins is in
        #{var}/log/qwenctl.log
    EOS
  end

  test do
    assert_match "qwenctl, version", shell_output("#{bin}/qwenctl --version")
    assert_match "demo", shell_output("#{bin}/qwenctl profiles")
  end
end
