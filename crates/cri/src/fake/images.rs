//! The images of the fake runtime.

use super::FakeRuntime;
use crate::v1::*;
use crate::{ImageService, Result};
use async_trait::async_trait;

#[async_trait]
impl ImageService for FakeRuntime {
    async fn list_images(&self, _filter: Option<ImageFilter>) -> Result<Vec<Image>> {
        let image =
            |name: &String| Image { id: name.clone(), repo_tags: vec![name.clone()], ..Default::default() };
        Ok(self.state.lock().images.iter().map(image).collect())
    }

    async fn image_status(&self, image: ImageSpec) -> Result<Option<Image>> {
        self.before().await?;
        let present = self.state.lock().images.contains(&image.image);
        Ok(present.then(|| Image { id: image.image.clone(), size: 1, ..Default::default() }))
    }

    async fn pull_image(
        &self,
        image: ImageSpec,
        _auth: Option<AuthConfig>,
        _sandbox_config: Option<PodSandboxConfig>,
    ) -> Result<String> {
        self.before().await?;
        {
            let mut state = self.state.lock();
            state.call("PullImage", &image.image)?;
            state.images.insert(image.image.clone());
        }
        self.after(Ok(image.image)).await
    }

    async fn remove_image(&self, image: ImageSpec) -> Result<()> {
        let mut state = self.state.lock();
        state.call("RemoveImage", &image.image)?;
        state.images.remove(&image.image);
        Ok(())
    }

    async fn image_fs_info(&self) -> Result<ImageFsInfoResponse> {
        Ok(ImageFsInfoResponse::default())
    }
}
